"""The reference library of Standard Webhooks as a black box. Runs in the sandbox's venv only; imports nothing of ours.

Reads deliveries as JSON on stdin ({"secret", "headers", "body"}) and prints, for each, what the library reads, or its error.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def main() -> None:
    """Judge what comes on stdin."""
    verdicts = []
    for delivery in json.load(sys.stdin):
        try:
            read = Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
        except WebhookVerificationError as error:
            verdicts.append({"error": str(error)})
        else:
            verdicts.append({"read": read})
    json.dump(verdicts, sys.stdout)


if __name__ == "__main__":
    main()
