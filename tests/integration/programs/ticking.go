// Serves the time over HTTP on a port of its own choice, which it prints.
package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("port %d\n", listener.Addr().(*net.TCPAddr).Port)
	http.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(out, "wall %.6f\n", float64(time.Now().UnixNano())/1e9)
	})
	panic(http.Serve(listener, nil))
}
