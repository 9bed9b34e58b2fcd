// Command fastagi is a FastAGI server that fails on demand; see the package
// testbed/fastagi/fault.
//
//	fastagi -listen 127.0.0.1:4573 -name ivr1 -fault 'fault=mid-command&after=1'
//	curl -X POST 'http://127.0.0.1:4574/fault?fault=ok'     (with -control 127.0.0.1:4574)
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"agiproxy/testbed/fastagi/fault"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fastagi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:4573", "`address` of the FastAGI server")
	control := flags.String("control", "", "`address` of the control port: GET /stats, GET /sessions, GET /calls, POST /fault?…")
	name := flags.String("name", "fastagi", "what the script calls itself")
	query := flags.String("fault", "", "the `behaviour` to begin with, such as fault=mid-command&after=1&delay=1s&reset=true")
	var script []string
	flags.Func("do", "a `command` of the script; may be given again (a short announcement)", func(s string) error {
		script = append(script, s)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return 2
	}
	b, err := fault.Parse(*query)
	if err != nil {
		fmt.Fprintf(stderr, "fastagi: %v\n", err)
		return 2
	}
	server, err := fault.Listen(*listen, fault.Options{Name: *name, Script: script, Behaviour: b})
	if err != nil {
		fmt.Fprintf(stderr, "fastagi: %v\n", err)
		return 1
	}
	defer server.Close()
	if *control != "" {
		ln, err := net.Listen("tcp", *control)
		if err != nil {
			fmt.Fprintf(stderr, "fastagi: control port: %v\n", err)
			return 1
		}
		defer ln.Close()
		fmt.Fprintf(stdout, "control on http://%s\n", ln.Addr())
		go http.Serve(ln, server.Control()) // until ln is closed
	}
	fmt.Fprintf(stdout, "%s: FastAGI on %s\n", *name, server.Addr())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	return 0
}
