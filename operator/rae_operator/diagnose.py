"""Why a pod does not run: from what the kubelet and the scheduler say to a reason and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from rae_operator.observe import PodView
from rae_operator.termination import clean_text

_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"})
_CONTAINER = frozenset({"CreateContainerError", "RunContainerError"})


@dataclass(frozen=True)
class Diagnosis:
    """What keeps a pod from running.

    Attributes:
        hopeless: waiting does not help unless a person acts.
    """

    reason: str
    message: str
    hopeless: bool = False


def diagnose(pods: tuple[PodView, ...]) -> Diagnosis:
    """The state of a Job's newest pod that is not running, as a reason to show."""
    waiting = [p for p in pods if not p.ended and not p.deleting]
    if not waiting:
        return Diagnosis("PodPending", "the Job has no pod yet")
    return _of_pod(waiting[-1])


def _of_pod(pod: PodView) -> Diagnosis:
    reason, text = pod.waiting_reason, clean_text(pod.waiting_message)
    if pod.unschedulable:
        return Diagnosis("Unschedulable", f"pod {pod.name} waits for a node: {clean_text(pod.unschedulable)}")
    if reason == "CreateContainerConfigError":
        return Diagnosis("ConfigMissing", f"pod {pod.name} cannot be configured: {text}", hopeless=True)
    if reason == "InvalidImageName":
        return Diagnosis("ImageInvalid", f"pod {pod.name}: {text}", hopeless=True)
    if reason in _IMAGE:
        return Diagnosis("ImagePullError", f"pod {pod.name} does not get its image: {text or reason}")
    if reason in _CONTAINER:
        return Diagnosis("ContainerCannotRun", f"pod {pod.name}: {text or reason}")
    return Diagnosis("PodPending", f"pod {pod.name} is being prepared")
