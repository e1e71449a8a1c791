// What keeps a pod's namespaces alive.
module local-control-plane/pause

go 1.24.0
