// Command verdict says what GitOps controllers read from objects: kstatus by its own library, and Flux's health
// expressions by Flux's own evaluator.
//
// It reads a JSON list of questions from stdin and writes a list of answers, in the same order, to stdout.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// A question is an object and, where Flux is asked too, the expressions for its kind.
type question struct {
	Object      *unstructured.Unstructured        `json:"object"`
	Expressions *kustomize.HealthCheckExpressions `json:"expressions"`
}

// An answer holds the words for the object: InProgress, Failed, Current, Terminating. Flux is empty where not asked.
type answer struct {
	Kstatus string `json:"kstatus"`
	Message string `json:"message"`
	Flux    string `json:"flux,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

func run() error {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		return fmt.Errorf("stdin: not a list of questions: %w", err)
	}
	answers := make([]answer, 0, len(questions))
	for number, q := range questions {
		a, err := q.answer()
		if err != nil {
			return fmt.Errorf("question %d: %w", number, err)
		}
		answers = append(answers, *a)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func (q question) answer() (*answer, error) {
	if q.Object == nil {
		return nil, fmt.Errorf("object: missing")
	}
	found, err := status.Compute(q.Object)
	if err != nil {
		return nil, fmt.Errorf("kstatus: %w", err)
	}
	a := &answer{Kstatus: found.Status.String(), Message: found.Message}
	if q.Expressions == nil {
		return a, nil
	}
	evaluator, err := cel.NewStatusEvaluator(q.Expressions)
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	word, err := evaluator.Evaluate(context.Background(), q.Object)
	if err != nil {
		return nil, fmt.Errorf("expressions: %w", err)
	}
	a.Flux = word.Status.String()
	return a, nil
}
