package celcond

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
)

// Limits in the units of CEL's cost model, some tens of nanoseconds each.
const (
	loadLimit = 1_000_000 // what an expression may be expected to cost at most
	runLimit  = 100_000   // what one evaluation may cost: a few milliseconds
)

// Sizes that values are taken to have when a cost is estimated. Larger ones
// happen; the limit at run time then ends the evaluation.
const (
	usualItems = 100
	usualBytes = 256
)

// affordable refuses what would be given up for usual values already.
func (c *Compiler) affordable(checked *cel.Ast) error {
	estimate, err := c.env.EstimateCost(checked, usual{})
	if err != nil {
		return mistake(oneLine(err.Error()))
	}
	if estimate.Max > loadLimit {
		return mistake(fmt.Sprintf("the expression can cost %d, of at most %d: do not put all and exists into one another so deeply", estimate.Max, loadLimit))
	}
	return nil
}

// usual implements cost.Estimator.
type usual struct{}

// EstimateCallCost leaves functions to the standard model.
func (usual) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize gives every value that is no literal its usual size.
func (usual) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	switch element.Type().Kind() {
	case types.StringKind, types.BytesKind:
		return &cost.SizeEstimate{Max: usualBytes}
	case types.ListKind, types.MapKind, types.DynKind, types.AnyKind:
		return &cost.SizeEstimate{Max: usualItems}
	default:
		return nil // one value of fixed size
	}
}
