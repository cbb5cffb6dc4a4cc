"""The reference of T4 and T5: PyPI `x402`'s asynchronous facilitator, as the SDK's own example serves it: on FastAPI and uvicorn.

Runs in the sandbox's environment, with coincurve; imports nothing of ours. Config: {rpc_url, relayer_key}. Its handlers are
coroutines and its RPC calls are not, which is how it ships; sandbox/sellers/local.py is the same in threads.
"""

from x402 import x402Facilitator
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.exact import register_exact_evm_facilitator

from sandbox.sellers.facilitator import application
from sandbox.sellers.serving import serve
from sandbox.sellers.settings import settings_from_command_line

NETWORK = "eip155:8453"


def main() -> None:
    """Read the config and serve."""
    settings = settings_from_command_line()
    signer = FacilitatorWeb3Signer(settings.relayer_key, settings.rpc_url)
    facilitator = x402Facilitator()
    register_exact_evm_facilitator(facilitator, signer, NETWORK)
    serve(application(facilitator), host=settings.host, port=settings.port, log_level=settings.log_level)


if __name__ == "__main__":
    main()
