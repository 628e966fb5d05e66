"""What `helm test` runs in its pod: waits until a party is ready, and says why it is not."""

import sys
import time
import urllib.error
import urllib.request

SECONDS = 60.0
PAUSE = 2.0

deadline, said = time.monotonic() + SECONDS, ""
while True:
    try:
        with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:  # noqa: S310 - the chart writes the address
            sys.stdout.write(f"ready: {answer.read().decode()}\n")
            break
    except urllib.error.HTTPError as error:
        reason = f"not ready: {error.read().decode()}"
    except OSError as error:
        reason = f"no answer from {sys.argv[1]}: {error}"
    if reason != said:
        sys.stdout.write(f"{reason}\n")
        sys.stdout.flush()
        said = reason
    if time.monotonic() > deadline:
        sys.exit(1)
    time.sleep(PAUSE)
