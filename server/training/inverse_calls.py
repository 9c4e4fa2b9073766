"""The calls of the proximal service that iterate for long: inverse problems, and the regulariser of a model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.proto import proximal_pb2 as pb
from relaxon.server.gate import errors
from relaxon.server.gate.uploads import Upload
from relaxon.server.solving.observations import SolveTrace
from relaxon.server.solving.runtime import watch
from relaxon.server.solving.solve_job import SolveJob
from relaxon.server.training import forward_maps, inverse_problems
from relaxon.server.training.forward_maps import ReadMap, Shape
from relaxon.server.training.inverse_problems import InversePlan, InverseRun, check_number
from relaxon.server.training.proximal_limits import announce_signals
from relaxon.server.training.service import Context, TrainingService
from relaxon.wire.conversions.inverse import progress_message, solution_messages
from relaxon.wire.conversions.proximal import prior_messages

MAX_NEWTON_STEPS = 10_000


async def evaluate_prior(service: TrainingService, _: Any, context: Context) -> None:
    """Answer a `Prior` call."""
    upload = service.upload(context)
    header: pb.PriorHeader = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: service.load(header.model))
        options = _prior_options(header)
        announced = announce_signals("x", header.x, header.shape, model, service.settings)
        array = await upload.array("x", announced.array)
        await upload.end()
        x = await service.run_beside(lambda: announced.read(array))

        def evaluate(job: SolveJob) -> Any:
            return model.prior(x, callback=lambda *_: job.check(), **options)

        with _run_beside(service, evaluate) as job:
            found: Any = await job.result()
            for reply in prior_messages(found, announced.array.shape):
                await context.write(reply)


async def solve(service: TrainingService, _: Any, context: Context) -> None:
    """Answer a `Solve` call."""
    upload = service.upload(context)
    header: pb.SolveInverseHeader = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: service.load(header.model))
        plan = await service.run_beside(lambda: inverse_problems.plan(header, model, service.settings))
        maps = await _read_maps(service, header, plan, upload)
        announced = inverse_problems.announce_observation(header, maps[-1].output_shape, service.settings)
        observation = await upload.array("observation", announced)
        x0 = None if plan.x0 is None else await upload.array("x0", plan.x0)
        run = InverseRun(model, maps, plan.fields, plan.options, observation, x0)
        await service.run_beside(run.check)
        with _run_beside(service, run.reconstruct, plan.progress_seconds, _trace(service, plan)) as job:
            found = await watch(job, upload, partial(_write_progress, job, context))
            for reply in solution_messages(found):
                await context.write(reply)


async def _read_maps(
    service: TrainingService, header: pb.SolveInverseHeader, plan: InversePlan, upload: Upload
) -> list[ReadMap]:
    """Return the forward maps, each for the output of the one before; that of a mask is known once it has arrived."""
    maps: list[ReadMap] = []
    shape: Shape = plan.shape
    for field, described in zip(plan.fields, header.operator, strict=True):
        one = await service.run_beside(partial(forward_maps.plan, field, described, shape, service.settings))
        with forward_maps.name_refusals(field):
            arrays: list[NDArray[Any]] = [await upload.array("operator", array) for array in one.arrays]
            maps.append(await service.run_beside(partial(one.read, arrays)))
        shape = maps[-1].output_shape
    return maps


@contextmanager
def _run_beside(
    service: TrainingService,
    work: Callable[[SolveJob], Any],
    progress_seconds: float | None = None,
    trace: SolveTrace | None = None,
) -> Iterator[SolveJob]:
    """Run `work` in the engines' threads while the block waits for it.

    At the end of the block the run is told to stop; it keeps a place among the pending calls until it has.
    """
    # Without a lock: the run shares nothing with other runs.
    job = SolveJob(nullcontext(), work, service.engines, progress_seconds, trace)
    try:
        yield job
    finally:
        job.abandon()
        if not job.future.done():
            service.admission.keep()
            loop = asyncio.get_running_loop()

            def end_in_loop(_: object) -> None:
                # When a server stops, its event loop may be gone before its threads are.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(service.admission.release)

            job.future.add_done_callback(end_in_loop)


def _trace(service: TrainingService, plan: InversePlan) -> SolveTrace | None:
    if service.observations is None:
        return None
    name, entries = f"{service.engine.kind}-{plan.options['method']}", math.prod(plan.shape)
    return service.observations.solve(name, plan.shape, entries)


async def _write_progress(job: SolveJob, context: Context) -> None:
    while (progress := await job.next_progress()) is not None:
        found: Any = progress
        await context.write(progress_message(found))


def _prior_options(header: pb.PriorHeader) -> dict[str, Any]:
    """Return how a regulariser is to be evaluated: what the header gives, by the engine's names."""
    given: dict[str, Any] = {}
    if header.HasField("rtol"):
        with errors.refusing():
            given["rtol"] = validation.positive_float("rtol", header.rtol)
    if header.HasField("max_iterations"):
        given["max_iterations"] = check_number("max_iterations", header.max_iterations, MAX_NEWTON_STEPS)
    return given
