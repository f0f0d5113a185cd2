"""What the commands share that run in pieces: the folder, the shard, and where the pieces run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from deeplab_spec.cli import output
from deeplab_spec.errors import SpecError
from deeplab_spec.pieces.cluster import Cluster, Work
from deeplab_spec.pieces.folder import Folder, cache_folder, recosted, run
from deeplab_spec.pieces.plan import WHOLE, Execute, Plan, Shard
from deeplab_spec.result import ExitCode
from deeplab_spec.views.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Which pieces of a run are done, where, and where they are kept; ``costs`` are folders of an earlier run."""

    shard: Shard
    folder: Folder | None
    cluster: Cluster | None
    costs: tuple[Folder, ...] = ()

    @classmethod
    def of(
        cls,
        shard: str | None,
        pieces: Path | None,
        costs: Sequence[Path] | None,
        ray: str | None,
        cpus: float,
        gpus: float,
    ) -> "Fleet":
        """Return what the options of these names say.

        Raises:
            SpecError: If there is no such shard, or nowhere to keep its pieces.
        """
        if shard and pieces is None:
            raise SpecError("--shard", "must come with --pieces DIR, where merge finds its pieces", shard)
        return cls(
            shard=Shard.read(shard) if shard else WHOLE,
            folder=Folder(pieces) if pieces else None,
            cluster=Cluster(address=ray, cpus=cpus, gpus=gpus) if ray else None,
            costs=tuple(map(Folder, costs or ())),
        )

    def in_cache(self, plan: Plan, kind: str, key: str) -> "Fleet":
        """Return the fleet with a folder in the cache, if it has none, where the last run with this key continues."""
        if self.folder:
            return self
        folder = Folder(cache_folder() / f"{kind}-{sha256(key.encode()).hexdigest()[:16]}")
        folder.adopt(recosted(plan, self.costs))
        return replace(self, folder=folder)

    @property
    def known(self) -> Plan | None:
        """The run whose pieces are in the folder."""
        return self.folder.plan() if self.folder else None

    def forget(self) -> None:
        """Remove what is in the folder."""
        if self.folder:
            self.folder.forget()

    def run(
        self,
        plan: Plan,
        here: Execute,
        work: Work,
        progress: Progress,
        again: Callable[[Any], bool] = lambda _result: False,
    ) -> dict[str, Any]:
        """Run the pieces that are not finished, here or on the cluster, and return the results by piece."""
        execute = self.cluster.execute(work) if self.cluster else here
        return run(recosted(plan, self.costs), self.shard, self.folder, execute, progress, again)

    def end_of_shard(self, results: dict[str, Any]) -> None:
        """End the command if there are more shards."""
        if self.shard.count > 1 and self.folder:
            output.summary(
                f"shard {self.shard} is done, {len(results)} pieces in {self.folder.path}; merge all of them"
            )
            raise typer.Exit(ExitCode.DONE)
