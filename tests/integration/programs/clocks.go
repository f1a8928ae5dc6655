// Prints the time from several goroutines, and what the programs that it starts say.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

func main() {
	fmt.Printf("wall %.6f\n", float64(time.Now().UnixNano())/1e9)
	if len(os.Args) > 1 {
		return
	}
	var group sync.WaitGroup
	var lock sync.Mutex
	for i := 0; i < 4; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			said, err := exec.Command(os.Args[0], "child").Output()
			if err != nil {
				panic(err)
			}
			byDate, err := exec.Command("date", "+wall %s").Output()
			if err != nil {
				panic(err)
			}
			lock.Lock()
			defer lock.Unlock()
			fmt.Printf("wall %d\n%s%s", time.Now().Unix(), said, byDate)
		}()
	}
	group.Wait()
}
