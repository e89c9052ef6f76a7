// Place predicts, places and reports one request against a running stack (`forebay up`): place MODEL PROMPT.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	forebay "forebay.dev/client-go"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: place MODEL PROMPT")
	}
	if err := place(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func place(ctx context.Context, model, prompt string) error {
	client, err := forebay.New(forebay.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	request := forebay.NewRequest(model, prompt, uint32(len(prompt)/4+1))
	request.TokensMax = 256
	predictions, err := client.Predict(ctx, request)
	if err != nil {
		return err
	}
	at := predictions[0].GetQuantiles()
	fmt.Printf("predicted: %d tokens (90 %%: %d)\n", at.GetP50Tokens(), at.GetP90Tokens())
	placement, err := client.Place(ctx, request)
	if err != nil {
		return err
	}
	fmt.Printf("placed on: %s at %s\n", placement.GetInstanceId(), placement.GetGrpcAddress())
	decision, err := client.Explain(ctx, placement.GetDecisionId())
	if err != nil {
		return err
	}
	fmt.Printf("because:   %s\n", decision.GetReason())
	// Here the request goes to the instance; its answer then ends the lease.
	return client.Finish(ctx, placement.GetLeaseId(), forebay.Stopped, 42, 0)
}
