package celcond

import (
	"encoding/json"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

const tooLarge = "the number cannot be represented"

// adapter turns claims, as authz.ParseClaims gives them, into values of CEL.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case json.Number:
		return number(v.String())
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(value)
}

// number is exact or an error for whole numbers: a rounded one could be equal to
// somebody else's. Fractions are the nearest double, as literals are.
func number(s string) ref.Val {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return types.NewErrFromString(tooLarge)
		}
		return types.Double(f)
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return types.Int(i)
	}
	u, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return types.NewErrFromString(tooLarge)
	}
	return types.Uint(u)
}
