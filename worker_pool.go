package ghostferry

import "sync"

// WorkerPool processes the numbers from 0 to n-1 by a fixed number of goroutines.
type WorkerPool struct {
	// Concurrency is the number of goroutines; less than 1 counts as 1.
	Concurrency int
	// Process handles one number. It is called concurrently.
	Process func(int) (interface{}, error)
}

// Run processes 0 to n-1 and returns the last result of each worker (as many as there
// are workers) and the first error. After an error no further number is handed out;
// those being processed are finished.
func (p *WorkerPool) Run(n int) ([]interface{}, error) {
	workers := max(p.Concurrency, 1)
	results := make([]interface{}, workers)
	numbers := make(chan int)
	failed := make(chan struct{})

	var wg sync.WaitGroup
	var once sync.Once
	var firstErr error
	for worker := range workers {
		wg.Go(func() {
			for number := range numbers {
				result, err := p.Process(number)
				results[worker] = result
				if err != nil {
					once.Do(func() {
						firstErr = err
						close(failed)
					})
					return
				}
			}
		})
	}

feed:
	for number := range n {
		select {
		case <-failed:
			break feed
		default:
		}
		select {
		case numbers <- number:
		case <-failed:
			break feed
		}
	}
	close(numbers)
	wg.Wait()
	return results, firstErr
}
