// Reads the clock for ever by Go's own means.
package main

import "time"

var sink int64

type meter struct{ start time.Time }

//go:noinline
func (m *meter) read() int64 { return int64(time.Since(m.start)) }

//go:noinline
func wall() int64 { return time.Now().UnixNano() }

func main() {
	m := &meter{time.Now()}
	for {
		sink += wall()
		sink += m.read()
	}
}
