-- a state file of version 1, as `sqlite3` dumps it
BEGIN TRANSACTION;
CREATE TABLE arrivals (
  object TEXT PRIMARY KEY,      -- the manifest's key in the store
  arrived TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, outcome TEXT
);
CREATE TABLE chains (
  chain TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL, head TEXT NOT NULL,
  PRIMARY KEY (chain, number)
);
INSERT INTO "chains" VALUES('audit',1,'{"at":"2026-01-01T00:00:00.000000+00:00","event":"run joined","run":"trial-1"}','6deeaeb39560b3b71b0132f47a8410d4acb78321076488b4971089207a58b02f');
INSERT INTO "chains" VALUES('audit',2,'{"at":"2026-01-01T00:00:00.000000+00:00","event":"run running","run":"trial-1"}','b2b20b1e6c08bfab235817c41009ea63d1d05ee5f668f351534e2d184dda82e3');
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "facts" VALUES('approved:trial-1','true');
CREATE TABLE inbox (
  sender TEXT NOT NULL, run TEXT NOT NULL, sequence INTEGER NOT NULL,
  digest TEXT NOT NULL, previous TEXT, kind TEXT NOT NULL, path TEXT,
  state TEXT NOT NULL,          -- ready | handed | done | skipped | refused
  handed INTEGER, attempts INTEGER NOT NULL DEFAULT 0, received TEXT NOT NULL,
  PRIMARY KEY (sender, run, sequence)
);
CREATE TABLE outbox (
  run TEXT NOT NULL, sequence INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
  recipients TEXT NOT NULL,     -- names, a JSON list
  body TEXT NOT NULL, bytes INTEGER NOT NULL, manifest BLOB NOT NULL,
  sealed TEXT NOT NULL, sent TEXT,
  PRIMARY KEY (run, sequence)
);
CREATE TABLE quarantine (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, object TEXT NOT NULL,
  reason TEXT NOT NULL, alarm INTEGER NOT NULL
);
CREATE TABLE runs (
  run TEXT PRIMARY KEY,
  phase TEXT NOT NULL,
  spec TEXT NOT NULL,           -- the run specification, exactly as offered
  coordinator TEXT NOT NULL,
  created TEXT NOT NULL,
  deadline TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '',
  ended TEXT,
  parties TEXT NOT NULL DEFAULT '{}',  -- party -> its public run key, as they join
  progress TEXT NOT NULL DEFAULT '{}',
  attempts INTEGER NOT NULL DEFAULT 0  -- crashes of the half outside an artifact
);
INSERT INTO "runs" VALUES('trial-1','running','{}','coordinator','2026-01-01T00:00:00.000000+00:00','2026-01-01T00:00:00.000000+00:00','',NULL,'{}','{}',0);
CREATE TABLE steps (
  run TEXT NOT NULL, step TEXT NOT NULL, finished TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (run, step)
);
INSERT INTO "steps" VALUES('trial-1','join','2026-01-01T00:00:00.000000+00:00',0.5);
CREATE INDEX waiting ON arrivals (object) WHERE outcome IS NULL;
DELETE FROM "sqlite_sequence";
COMMIT;
PRAGMA user_version=1;
