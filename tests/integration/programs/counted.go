// counted N COUNT: N goroutines ask for the time COUNT times each.
package main

import (
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	count, _ := strconv.Atoi(os.Args[2])
	var group sync.WaitGroup
	for i := 0; i < n; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < count; j++ {
				time.Now()
			}
		}()
	}
	group.Wait()
}
