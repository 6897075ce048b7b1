"""Manifests that serve a promoted model on Kubernetes: by Triton in Deployments, or by KServe."""

from calib.promotion.kubernetes.target import KubernetesManifests, open_target

__all__ = ["KubernetesManifests", "open_target"]
