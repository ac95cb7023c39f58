// Command example produces to a Highwater cluster, consumes, and reads in a consumer group, with nothing but the published
// protos and gRPC.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

//go:generate go run ./generate

const usage = `usage:
  example [-brokers HOST:PORT,...] produce TOPIC           stores the lines of standard input, KEY<Tab>VALUE each
  example [-brokers HOST:PORT,...] consume TOPIC           prints what the topic holds
  example [-brokers HOST:PORT,...] group   TOPIC GROUP     reads the topic as a member of the group until Ctrl-C
`

func main() {
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	brokers := flag.String("brokers", "127.0.0.1:7410", "")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	cluster := newCluster(strings.Split(*brokers, ","))
	var err error
	switch arguments := flag.Args(); {
	case len(arguments) == 2 && arguments[0] == "produce":
		err = produce(ctx, cluster, arguments[1], os.Stdin)
	case len(arguments) == 2 && arguments[0] == "consume":
		err = consume(ctx, cluster, arguments[1])
	case len(arguments) == 3 && arguments[0] == "group":
		err = readInGroup(ctx, cluster, arguments[1], arguments[2])
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
