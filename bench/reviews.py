"""Admission reviews as API servers send them, of a chosen size and with a chosen number of annotations."""

import json

NAMESPACE = "shop"
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def review(annotations: dict[str, str], kibibytes: int) -> bytes:
    """The review of a pod of so many KiB, its annotations not counted."""
    pod = _pod(annotations)
    missing = kibibytes * 1024 - len(_compact(_pod({})))
    # What makes pods large is their environment, and what tools note down of them: about half each here.
    variables = pod["spec"]["containers"][0]["env"]
    number = 0
    while missing > 1024:
        variable = {"name": f"SETTING_{number}", "value": "v" * 60}
        variables.append(variable)
        field = {f'k:{{"name":"SETTING_{number}"}}': {".": {}, "f:name": {}, "f:value": {}}}
        pod["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:env"] |= field
        missing -= len(_compact(variable)) + len(_compact(field))
        number += 1
    rest = {"name": "REST", "value": ""}
    variables.append(rest)
    rest["value"] = "v" * max(kibibytes * 1024 - len(_compact(pod | {"metadata": pod["metadata"] | {"annotations": {}}})), 0)
    return _compact(_review(pod))


def _compact(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _pod(annotations: dict[str, str]) -> dict:
    """A pod of a Deployment after the API server's own admission."""
    token = {"name": "kube-api-access-x7k2p", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c7b7f6", "uid": UID, "controller": True, "blockOwnerDeletion": True}
    tolerations = [{"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300} for what in ("not-ready", "unreachable")]
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "web-5d9c7b7f6-",
            "namespace": NAMESPACE,
            "creationTimestamp": None,
            "labels": {"app": "web", "pod-template-hash": "5d9c7b7f6"},
            "annotations": annotations,
            "ownerReferences": [owner],
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:generateName": {}}, "f:spec": {"f:env": {}}},
            }],
        },
        "spec": {
            "volumes": [{"name": token["name"], "projected": {"sources": sources, "defaultMode": 420}}],
            "containers": [{
                "name": "app", "image": "registry.example.com/shop/web:1.4.2", "ports": [{"containerPort": 8080, "protocol": "TCP"}], "env": [],
                "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
                "volumeMounts": [token], "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": "default",
            "serviceAccount": "default", "securityContext": {}, "schedulerName": "default-scheduler", "tolerations": tolerations,
            "priority": 0, "enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    }


def _review(pod: dict) -> dict:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    user = {"username": "system:serviceaccount:kube-system:replicaset-controller", "uid": UID, "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID, "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource, "namespace": NAMESPACE,
            "operation": "CREATE", "userInfo": user, "object": pod, "oldObject": None, "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }
