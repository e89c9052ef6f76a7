"""Translation between the contract's messages and the values of deferred work."""

import json

from lmaas.deferred.v1 import job_pb2

from forebay.gateway.deferred.lines import parts
from forebay.gateway.deferred.values import Job, Line
from forebay.wire.convert import timestamp


def job_to_proto(job: Job) -> job_pb2.Job:
    """A job as a message."""
    return job_pb2.Job(
        job_id=job.job_id,
        endpoint=job.endpoint,
        model=job.model,
        status=f"JOB_STATUS_{job.status.name}",
        total_count=job.total_count,
        completed_count=job.completed_count,
        failed_count=job.failed_count,
        create_time=timestamp(job.created_us),
        deadline=timestamp(job.deadline_us),
        end_time=timestamp(job.ended_us) if job.ended_us else None,
        input_file_id=job.input_file_id,
        output_file_id=job.output_file_id,
        error_file_id=job.error_file_id,
        metadata=dict(job.metadata),
    )


def result_to_proto(line: Line) -> job_pb2.Result:
    """A line of a result file as a message."""
    value = parts(line)
    response, error = value["response"] or {}, value["error"] or {}
    return job_pb2.Result(
        number=line.number,
        custom_id=value["custom_id"],
        state=f"RESULT_STATE_{line.state.name}",
        status_code=response.get("status_code", 0),
        request_id=response.get("request_id", ""),
        body=json.dumps(response["body"]) if response else "",
        error_code=error.get("code", ""),
        error_message=error.get("message", ""),
    )
