"""`rae-jobctl serve-ml`: RAE's ML service API, for installations whose RAE no longer has one."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rae_jobctl.errors import ConfigError

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: rae-jobctl serve-ml; rae-jobctl serve-ml --host 0.0.0.0 --port 8001")
def serve_ml(
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 for all of IPv4, :: for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8001,
    waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, max=10_000, help="Requests of one path at once; more get 503.")
    ] = 32,
    seconds: Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds for one answer.")] = 30.0,
    grace: Annotated[
        float, typer.Option("--grace", min=0, max=3600, help="Seconds that requests under way have after SIGTERM.")
    ] = 20.0,
) -> None:
    """Serve RAE's ML service API over HTTP: /extract-triples, /resolve-entities, /embeddings, /health, /ready.

    Everything is computed here, without a key, a network or a model to fetch. Point ML_SERVICE_URL at it.
    """
    asyncio.run(_serve(host, port, waiting, seconds, grace))


async def _serve(host: str, port: int, waiting: int, seconds: float, grace: float) -> None:
    from rae_jobctl.deadline import StopSignal, stop_on_signals

    try:
        from rae_jobctl.ml_server.app import Limits
        from rae_jobctl.ml_server.server import serve
    except ImportError as error:
        raise ConfigError(
            f"serve-ml is not installed ({error.name} is missing)",
            reason="ServerMissing",
            hint="pip install 'rae-tasks[serve,local]'",
        ) from None
    stop = StopSignal()
    with stop_on_signals(stop):
        await serve(
            host, port, Limits(waiting=waiting, seconds=seconds), grace, stop, lambda url: typer.echo(f"listening at {url}")
        )
