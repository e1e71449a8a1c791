// Command etcd is the etcd server as its own project builds it, so that go.sum verifies every module in it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
