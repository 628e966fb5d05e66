"""The four dashboards: who is there and what waits for whom, one run, one silo, and the wire.

Conventions: `$party` is chosen on top; what concerns the federation as a whole is taken from the coordinator where it
is watched, and otherwise from whoever says most. Rates reach over Grafana's `$__rate_interval`.
"""

from __future__ import annotations

from deploy.monitoring.panels import Board, Panel

DAY = 86_400.0
GROWS_WORSE = ((None, "green"), (0.5, "orange"), (1.0, "red"))
BUDGET = ((None, "green"), (0.8, "orange"), (1.0, "red"))
RUNS_OUT = ((None, "red"), (7 * DAY, "orange"), (30 * DAY, "green"))
ROSTER_RUNS_OUT = ((None, "red"), (2 * DAY, "green"))  # it is signed for a week by default
ANY_IS_BAD = ((None, "green"), (1.0, "red"))
OF = '{party=~"$party"}'
RATE = "[$__rate_interval]"
RANGE = "[$__range]"
_HUB = '* on (party) group_left () silokit_info{role="coordinator"}'


def _per_second(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{OF}{RATE}))"


def _grown(metric: str, by: str) -> str:
    return f"sum by ({by}) (increase({metric}{OF}{RATE}))"


def _slowest(histogram: str, by: str = "party") -> str:
    return f"histogram_quantile(0.95, sum by ({by}, le) (rate({histogram}_bucket{OF}[15m])))"


FEDERATION = Board(
    "federation",
    "Federation",
    "Who is there, and what waits for whom: for the consortium's platform team.",
    {
        "Who is there": [
            Panel("Parties watched", "Parties that Prometheus reaches.", "stat",
                  [("count(silokit_info)", "")], width=4, height=4),
            Panel("Parties ready", "Parties that could do their part now.", "stat",
                  [("sum(min by (party) (silokit_ready))", "")], width=4, height=4),
            Panel("Silos enrolled", "Silos in the roster that the keyholders signed.", "stat",
                  [('max(silokit_contributors{state="enrolled"})', "")], width=4, height=4),
            Panel("Runs under way", "Runs that the coordinator has begun and that have not ended.", "stat",
                  [(f'sum(silokit_runs{{phase="running"}} {_HUB})', "")], width=4, height=4),
            Panel("Since the last result", "Since any watched party last ended a run with its result.", "stat",
                  [('time() - max(silokit_last_success_timestamp_seconds{what="run"})', "")],
                  unit="s", width=4, height=4),
            Panel("Set aside in 24 hours", "Artifacts in quarantine anywhere; see *Wire* for the reasons.", "stat",
                  [("sum(increase(silokit_quarantined_total[24h]))", "")],
                  width=4, height=4, thresholds=ANY_IS_BAD),
        ],
        "Are they well": [
            Panel("Ready", "Whether each party could do its part; *Silo* shows which part is amiss.", "timeline",
                  [("min by (party) (silokit_ready)", "{{party}}")], width=16),
            Panel("Versions", "What runs where: a federation upgrades one party at a time.", "table",
                  [("silokit_info", "party role version")]),
        ],
        "What waits for whom": [
            Panel("Contributors", "Silos that the living runs invited, that have joined, and that are awaited.",
                  "lines", [("max by (state) (silokit_contributors)", "{{state}}")]),
            Panel("Time spent waiting, of the deadline", "How much of its time a run has waited for this silo to join: "
                  "at 100 % it fails.", "bars",
                  [("max by (silo) (silokit_awaited_deadline_ratio)", "{{silo}}")],
                  unit="percentunit", thresholds=GROWS_WORSE, most=1),
            Panel("Last heard of", "Since the last artifact of each member came. A silo without work is silent.",
                  "bars", [("time() - max by (silo) (silokit_last_heard_timestamp_seconds)", "{{silo}}")], unit="s"),
            Panel("Runs", "The coordinator's runs by how far they are.", "lines",
                  [(f"sum by (phase) (silokit_runs {_HUB})", "{{phase}}")], width=16),
            Panel("Takes part in", "Running runs in which each silo takes part.", "bars",
                  [("max by (silo) (silokit_taking_part)", "{{silo}}")]),
        ],
        "What runs out": [
            Panel("Certificate and root run out in", "People renew both.", "bars",
                  [('min by (what, party) (silokit_expiry_timestamp_seconds{what=~"certificate|root"}) - time()',
                    "{{party}} {{what}}")], unit="s", width=6, thresholds=RUNS_OUT),
            Panel("Roster runs out in", "The list of members, which keyholders sign.", "bars",
                  [('min by (party) (silokit_expiry_timestamp_seconds{what="roster"}) - time()', "{{party}}")],
                  unit="s", width=6, thresholds=ROSTER_RUNS_OUT),
            Panel("Trust stays fresh for", "The coordinator renews it every minute. Ten minutes below zero a "
                  "party joins and accepts nothing more.", "lines",
                  [('min by (party) (silokit_expiry_timestamp_seconds{what="timestamp"}) - time()', "{{party}}")],
                  unit="s", width=6),
            Panel("The store's clock is ahead by", "A party is wrong when its line alone is off; the store is when "
                  "all are.", "lines", [("silokit_clock_skew_seconds", "{{party}}")], unit="s", width=6),
        ],
    },
)  # fmt: skip

RUN = Board(
    "run",
    "Run",
    "One run from join to decode: for whoever waits for its result.",
    {
        "Join": [
            Panel("Runs that have not ended", "How far each party is with them.", "lines",
                  [('sum by (party, phase) (silokit_runs{phase=~"offered|queued|joined|running",party=~"$party"})',
                    "{{party}} {{phase}}")], width=12),
            Panel("Awaited", "Runs that wait for this silo to join.", "bars",
                  [(f"max by (silo) (silokit_awaited{OF})", "{{silo}}")], width=6),
            Panel("How runs ended", "Ended runs that each party remembers.", "bars",
                  [('sum by (party, phase) (silokit_runs{phase=~"done|failed|declined|cancelled",party=~"$party"}) > 0',
                    "{{party}} {{phase}}")], width=6),
        ],
        "Compute": [
            Panel("Computing", "Whether a step is being computed.", "timeline",
                  [(f"max by (party) (silokit_computing{OF})", "{{party}}")], width=12, answers=("#44474f", "blue")),
            Panel("Progress", "Of the training under way.", "lines",
                  [(f"silokit_progress_steps{OF} / silokit_progress_of_steps{OF}", "{{party}} {{phase}}")],
                  unit="percentunit", width=12, most=1),
            Panel("Loss", "As last reported; private training reports none, for its loss would tell of people.",
                  "lines", [(f"silokit_training_loss{OF}", "{{party}} {{phase}}")]),
            Panel("Throughput", "Training steps per second.", "lines",
                  [(_per_second("silokit_training_steps_total", "party, phase"), "{{party}} {{phase}}")]),
            Panel("No word for", "For how long the step under way has not reported progress.", "lines",
                  [(f"silokit_computing_quiet_seconds{OF}", "{{party}}")], unit="s"),
            Panel("Processor", "Cores in use.", "lines",
                  [(_per_second("process_cpu_seconds_total", "party"), "{{party}}")]),
            Panel("Memory", "Resident.", "lines", [(f"process_resident_memory_bytes{OF}", "{{party}}")], unit="bytes"),
            Panel("GPU memory", "In tensors, and reserved for them; zero where nothing ran on a GPU.", "lines",
                  [('silokit_gpu_memory_bytes{kind!="total",party=~"$party"}', "{{party}} {{kind}}")], unit="bytes"),
        ],
        "From step to step": [
            Panel("Steps finished", "Named steps of the protocol, and what the program does around them.", "lines",
                  [(_grown("silokit_steps_finished_total", "party, protocol"), "{{party}} {{protocol}}")]),
            Panel("Artifacts sent", "By kind: align, latents, slices of SiloFuse; generators of SGDE; `run.*` steers.",
                  "lines", [(_grown("silokit_artifacts_sent_total", "kind"), "{{kind}}")]),
            Panel("Sealed bytes sent, for life", "By kind.", "bars",
                  [(f"sum by (kind) (silokit_artifacts_sent_bytes_total{OF})", "{{kind}}")], unit="bytes"),
        ],
    },
    "silokit_info",
)  # fmt: skip

SILO = Board(
    "silo",
    "Silo",
    "One institution's agent: what it has spent, whether it is well, what it does. For the hospital's IT.",
    {
        "Privacy budget": [
            Panel("Budget used", "Of what the policy grants each data set for life; nothing is ever given back.",
                  "bars", [(f"sum by (party, dataset) (silokit_budget_used_ratio{OF})", "{{party}} {{dataset}}")],
                  unit="percentunit", thresholds=BUDGET, most=1),
            Panel("Used by", "The same by protocol.", "bars",
                  [(f"silokit_budget_used_ratio{OF}", "{{party}} {{dataset}} {{protocol}}")], unit="percentunit"),
            Panel("ε", "Spent and granted, for life at the policy's δ.", "lines",
                  [(f"silokit_epsilon_spent{OF}", "{{party}} {{dataset}} spent"),
                   (f"silokit_epsilon_limit{OF}", "{{party}} {{dataset}} granted")], width=5),
            Panel("Refused", "Runs and releases that the budget did not allow, since the agent started.", "stat",
                  [(f"sum(silokit_budget_refusals_total{OF})", "")], width=3, thresholds=ANY_IS_BAD),
        ],
        "Is it well": [
            Panel("Ready", "What it needs to do its part. `/readyz` gives the reason for a no.", "timeline",
                  [(f"silokit_ready{OF}", "{{party}} {{part}}")], width=10),
            Panel("Since the last answer", "Of store and broker; and since a run ended with its result.", "lines",
                  [(f"time() - silokit_last_success_timestamp_seconds{OF}", "{{party}} {{what}}")], unit="s", width=10),
            Panel("Restarts", "In the time shown.", "stat",
                  [(f"sum(changes(process_start_time_seconds{OF}{RANGE}))", "")], width=4,
                  thresholds=((None, "green"), (3.0, "red"))),
        ],
        "What it does": [
            Panel("Training", "Progress of the training under way.", "lines",
                  [(f"silokit_progress_steps{OF} / silokit_progress_of_steps{OF}", "{{party}} {{phase}}")],
                  unit="percentunit", most=1),
            Panel("Throughput", "Training steps per second.", "lines",
                  [(_per_second("silokit_training_steps_total", "party, phase"), "{{party}} {{phase}}")]),
            Panel("Processor", "Cores in use.", "lines",
                  [(_per_second("process_cpu_seconds_total", "party"), "{{party}}")]),
            Panel("Transfers", "Bodies to the store (up) and from it (down).", "lines",
                  [(_per_second("silokit_transfer_bytes_total", "party, direction"), "{{party}} {{direction}}")],
                  unit="Bps"),
            Panel("Waiting", "Sealed and unsent (out), heard of and not judged (in), opened and not used (work).",
                  "lines", [(f"silokit_queue_depth{OF}", "{{party}} {{queue}}")]),
            Panel("Set aside", "Artifacts in quarantine, by reason.", "lines",
                  [(_grown("silokit_quarantined_total", "party, reason"), "{{party}} {{reason}}")]),
        ],
        "What it stands on": [
            Panel("Disk in use", "Where keys and state lie.", "bars",
                  [(f"1 - silokit_disk_free_bytes{OF} / silokit_disk_size_bytes{OF}", "{{party}}")],
                  unit="percentunit", width=6, thresholds=((None, "green"), (0.8, "orange"), (0.9, "red")), most=1),
            Panel("State file", "Grows with every run; it is in the backup.", "lines",
                  [(f"silokit_state_bytes{OF}", "{{party}}")], unit="bytes", width=6),
            Panel("Certificate runs out in", "Enrol again with the same keys to renew it.", "bars",
                  [('silokit_expiry_timestamp_seconds{what="certificate",party=~"$party"} - time()', "{{party}}")],
                  unit="s", width=6, thresholds=RUNS_OUT),
            Panel("Roster runs out in", "The consortium has it signed anew.", "bars",
                  [('silokit_expiry_timestamp_seconds{what="roster",party=~"$party"} - time()', "{{party}}")],
                  unit="s", width=6, thresholds=ROSTER_RUNS_OUT),
        ],
    },
    'silokit_info{role="silo"}',
)  # fmt: skip

WIRE = Board(
    "wire",
    "Wire",
    "Broker, store and seals: for who runs the servers, and who must find out why something does not arrive.",
    {
        "Notices": [
            Panel("Dead letters", "Notices that no queue took: the broker must be provisioned again.", "stat",
                  [('max({__name__=~"rabbitmq_(detailed_)?queue_messages",queue="silokit.dead"})', "")],
                  width=4, thresholds=ANY_IS_BAD),
            Panel("Queues at the broker", "Notices that wait for a party to take them.", "lines",
                  [('sum by (queue) ({__name__=~"rabbitmq_(detailed_)?queue_messages",queue=~"silokit.party.*"})',
                    "{{queue}}")], width=7),
            Panel("How artifacts are heard of", "By notice, or only by listing the store: then a notice was lost.",
                  "lines", [(_grown("silokit_heard_total", "way"), "{{way}}")], width=6),
            Panel("Notice lag, 95 %", "From sealing at the sender until heard of here, the upload included.", "lines",
                  [(_slowest("silokit_notice_lag_seconds"), "{{party}}")], unit="s", width=7),
        ],
        "Store": [
            Panel("Failed tries", "Per second, by what did not answer. A few are weather.", "lines",
                  [(_per_second("silokit_failures_total", "party, part"), "{{party}} {{part}}")]),
            Panel("Transfers, 95 %", "To bring a body to the store or from it.", "lines",
                  [(_slowest("silokit_transfer_seconds", "party, direction"), "{{party}} {{direction}}")], unit="s"),
            Panel("Transferred", "Bytes per second.", "lines",
                  [(_per_second("silokit_transfer_bytes_total", "direction"), "{{direction}}")], unit="Bps"),
            Panel("Since the store answered", "Listed every fifteen seconds at least.", "lines",
                  [('time() - silokit_last_success_timestamp_seconds{what="store",party=~"$party"}', "{{party}}")],
                  unit="s"),
            Panel("Unsent", "Sealed artifacts that wait for store or broker.", "lines",
                  [('silokit_queue_depth{queue="out",party=~"$party"}', "{{party}}")]),
            Panel("The oldest waits for", "Of what is unsent, not judged or not used.", "lines",
                  [(f"silokit_queue_oldest_seconds{OF}", "{{party}} {{queue}}")], unit="s"),
        ],
        "Seals": [
            Panel("Sealing, 95 %", "To encrypt and sign an artifact.", "lines",
                  [(_slowest("silokit_seal_seconds"), "{{party}}")], unit="s"),
            Panel("Opening, 95 %", "To verify and decrypt one.", "lines",
                  [(_slowest("silokit_open_seconds"), "{{party}}")], unit="s"),
            Panel("Set aside", "`unsigned`: no member signed it; `equivocation`: its sender contradicts itself; "
                  "`envelope`: expired, or for something else; `content`: the protocol does not allow it.", "lines",
                  [(_grown("silokit_quarantined_total", "reason"), "{{reason}}")]),
        ],
    },
    "silokit_info",
)  # fmt: skip

BOARDS = (FEDERATION, RUN, SILO, WIRE)
