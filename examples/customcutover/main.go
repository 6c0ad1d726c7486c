// Customcutover moves the schema "shop" for an application that has its own ideas about
// nearly everything: which tables move, when to go slowly, what equal means, whom to tell
// about errors, and how traffic is switched. It speaks the vocabulary that hosts written for
// Shopify's Ghostferry know, with a context and errors, and CheckLateWrites.
//
//	customcutover ROUTER < CONFIG.json
//
// CONFIG.json is {"Source": {"Host": …, "Port": …, "User": …, "Pass": …}, "Target": {the
// same}}; the target has the schema's tables, empty. ROUTER is a program that is called with
// "block" (no writes from now on, it ends when none is running), "source" or "target" (this
// side takes the writes). Calling it twice with the same word has to do no harm.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"

	"github.com/ghostferry-go/ghostferry"
)

// program is a router that is called as a command.
type program string

func (p program) set(ctx context.Context, word string) error {
	if output, err := exec.CommandContext(ctx, string(p), word).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", p, word, err, output)
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: customcutover ROUTER < CONFIG.json")
	}
	config := &ghostferry.Config{TableFilter: tables{schema: "shop"}, AutomaticCutover: true}
	if err := ghostferry.DecodeConfig(os.Stdin, config); err != nil {
		log.Fatal(err)
	}
	report, err := newMove(config, program(os.Args[1])).run(context.Background())
	if err != nil {
		log.Fatal(err) // the message says which side takes the writes
	}
	fmt.Printf("moved: %d rows copied, %d changes followed, largest batch %d rows, writes blocked for %v\n",
		report.rows, report.changes, report.largestBatch, report.blocked)
}
