"""Kubernetes' Pod Security Standards, levels `baseline` and `restricted`, as checks of a pod's spec.

Written from https://kubernetes.io/docs/concepts/security/pod-security-standards/ (1.34): each control by its name there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_BASELINE_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")


def baseline_violations(pod: Mapping[str, Any]) -> list[str]:
    """Return the controls of the level `baseline` that a pod's spec violates, each with its place."""
    return sorted(set(_baseline(pod)))


def restricted_violations(pod: Mapping[str, Any]) -> list[str]:
    """Return the controls of the level `restricted` that a pod's spec violates; it has all of `baseline`."""
    return sorted({*_baseline(pod), *_restricted(pod)})


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield name, container and security context of every container."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(kind) or []:
            yield container.get("name", "?"), container, container.get("securityContext") or {}


def _baseline(pod: Mapping[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"Host Namespaces: {key}"
    for volume in pod.get("volumes") or []:
        if "hostPath" in volume:
            yield f"HostPath Volumes: {volume.get('name')}"
    for sysctl in context.get("sysctls") or []:
        if sysctl.get("name") not in _SAFE_SYSCTLS:
            yield f"Sysctls: {sysctl.get('name')}"
    yield from _contexts_of_baseline("pod", context)
    for name, container, own in _containers(pod):
        yield from _contexts_of_baseline(name, own)
        if own.get("privileged"):
            yield f"Privileged Containers: {name}"
        if set((own.get("capabilities") or {}).get("add") or []) - _BASELINE_CAPABILITIES:
            yield f"Capabilities: {name}"
        if own.get("procMount") not in (None, "Default"):
            yield f"/proc Mount Type: {name}"
        if any(port.get("hostPort") for port in container.get("ports") or []):
            yield f"Host Ports: {name}"
        hooks = container.get("lifecycle") or {}
        handlers = [container.get(probe) or {} for probe in _PROBES] + [hooks.get(hook) or {} for hook in _HOOKS]
        if any((handler.get(kind) or {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")):
            yield f"Host Probes / Lifecycle Hooks: {name}"


def _contexts_of_baseline(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    """Yield the controls that hold for pods and containers alike."""
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"HostProcess: {name}"
    if (context.get("appArmorProfile") or {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield f"AppArmor: {name}"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"SELinux: {name}"
    if (context.get("seccompProfile") or {}).get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield f"Seccomp: {name}"


def _restricted(pod: Mapping[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext") or {}
    for volume in pod.get("volumes") or []:
        if set(volume) - {"name"} - _RESTRICTED_VOLUMES:
            yield f"Volume Types: {volume.get('name')}"
    if context.get("runAsUser") == 0:
        yield "Running as Non-root user: pod"
    if context.get("runAsNonRoot") is False:
        yield "Running as Non-root: pod"
    for name, _, own in _containers(pod):
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"Privilege Escalation: {name}"
        # A container may leave out what its pod has.
        if own.get("runAsNonRoot", context.get("runAsNonRoot")) is not True:
            yield f"Running as Non-root: {name}"
        if own.get("runAsUser") == 0:
            yield f"Running as Non-root user: {name}"
        if (own.get("seccompProfile") or context.get("seccompProfile") or {}).get("type") not in (
            "RuntimeDefault",
            "Localhost",
        ):
            yield f"Seccomp: {name}"
        capabilities = own.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []) or set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
            yield f"Capabilities: {name}"
