"""One study, from its composed config to its record: python train.py experiment=NAME"""

from omegaconf import DictConfig

from shrinkage import config, rules
from shrinkage.boundary import job_in_one_line
from shrinkage.errors import InputError
from shrinkage.machine.imports import importing_much
from shrinkage.runs.folder import RunLocation
from shrinkage.runs.membership import Membership
from shrinkage.runs.record import Record, recorded


def study(cfg: DictConfig) -> None:
    """Answer the study's question, print the answer and record tables and figures.

    An InputError ends it in one line, and is raised as Refused in a sweep.
    """
    with job_in_one_line():
        record = Record(rules.complete(cfg), RunLocation.of_this_job(), Membership.of_this_job())
        try:
            with recorded([record]):
                rules.check_keys(cfg)
                rules.check(cfg)
                if config.devices(cfg) > 1:
                    raise InputError(
                        f"trainer.devices={cfg.trainer.devices}: a study trains its runs on one; use trainer.devices=1"
                    )
                record.connect()

                with importing_much():
                    from threadpoolctl import threadpool_limits

                    from shrinkage.report.findings import files, show
                    from shrinkage.training.workshop import make_chosen, quieten

                quieten()
                asked = make_chosen(cfg, "study")
                record.begin([])
                with threadpool_limits(cfg.threads or 1):  # on small matrices a second thread only waits
                    findings = asked.run(cfg)
                show(record.name, findings)
                for path in files(findings, record.folder):
                    record.keep(path)
                    print(path)
                record.tag({"mlflow.note.content": "\n\n".join(findings.answer)})  # MLflow's description of a run
                record.complete([], {}, findings.metrics)
        finally:
            record.settle()
