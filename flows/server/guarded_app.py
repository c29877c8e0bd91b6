"""Prefect's server with a check of the Host header, as `pal up` starts it: `python -m flows.server.guarded_app`.

Without the check, a web page whose host name resolves to this machine (DNS rebinding) has the same origin as the
server, so that neither CORS nor the CSRF token blocks it. Prefect has no setting for this.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = ("127.0.0.1", "localhost")


def guarded_app(host: str) -> ASGIApp:
    """Return Prefect's server and UI; on a loopback host it only accepts requests to a loopback name."""
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(final=True)
    if host not in LOOPBACK:
        return app
    # Wrapped around the app, not added to it: Prefect's own services call the inner app under another host name.
    return TrustedHostMiddleware(app, allowed_hosts=list(LOOPBACK), www_redirect=False)


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    uvicorn.run(guarded_app(arguments.host), host=arguments.host, port=arguments.port, log_level="warning")
