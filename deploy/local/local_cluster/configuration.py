"""The texts that the node's programs read. Pure: they depend on the arguments alone."""

import json
from pathlib import Path

from local_cluster.layout import NODE_ADDRESS, POD_RANGE, SOCKET

PAUSE_IMAGE = "localhost/pause:1"


def containerd(data: Path, plugins: Path, networks: Path) -> str:
    """Return containerd's configuration.

    restrict_oom_score_adj: where a process may not lower its oom_score_adj (a machine that is a container itself),
    runc would refuse to start any pod.
    """
    cri = '[plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{data / "containerd"}"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]
[grpc]
address = "{SOCKET}"
{cri}]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{cri}.containerd.runtimes.runc.options]
SystemdCgroup = false
{cri}.cni]
bin_dir = "{plugins}"
conf_dir = "{networks}"
"""


def network() -> str:
    """Return the CNI configuration: pods on a bridge, whose address is the node's."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-addresses",
        "ranges": [[{"subnet": POD_RANGE, "gateway": NODE_ADDRESS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False}
    return json.dumps({"cniVersion": "0.4.0", "name": "local", "plugins": [bridge | {"ipam": addresses}]})


def kubelet(name: str, *, open_files: int) -> str:
    """Return the kubelet's configuration. Nobody but this machine's root reaches it, so that it asks for no login."""
    full = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{name}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "evictionHard": dict.fromkeys(full, "0%"),  # how full the machine is, is not the cluster's business
            "imageGCHighThresholdPercent": 100,
            "oomScoreAdj": 0,
            "maxOpenFiles": open_files,
            "makeIPTablesUtilChains": False,
            "resolvConf": "",
            "clusterDomain": "cluster.local",
            "podLogsDir": "/var/log/pods",
            "nodeStatusUpdateFrequency": "2s",
            "syncFrequency": "5s",
        }
    )


def etcd_flags(data: Path) -> list[str]:
    """Return etcd's flags: no fsync, as the data never outlives the cluster."""
    client = "http://127.0.0.1:2379"
    return [
        *("--data-dir", str(data / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
    ]


def api_server_flags(certificates: Path, service_range: str, signing_key: Path, tokens: Path) -> list[str]:
    """Return kube-apiserver's flags; it makes its certificate itself, for the node's address among others."""
    return [
        *("--etcd-servers", "http://127.0.0.1:2379", "--secure-port", "6443", "--cert-dir", str(certificates)),
        *("--advertise-address", NODE_ADDRESS, "--service-cluster-ip-range", service_range),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-key-file", str(signing_key), "--service-account-signing-key-file", str(signing_key)),
        *("--token-auth-file", str(tokens), "--authorization-mode", "Node,RBAC", "--allow-privileged=true"),
        *("--kubelet-preferred-address-types", "InternalIP"),
    ]


def proxy_flags(kubeconfig: Path, name: str) -> list[str]:
    """Return kube-proxy's flags; the connection table stays as the machine has it."""
    return [
        *("--kubeconfig", str(kubeconfig), "--proxy-mode", "nftables", "--hostname-override", name),
        *("--cluster-cidr", POD_RANGE, "--conntrack-max-per-core", "0"),
        *("--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"),
    ]
