package schema

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"

	"github.com/skep-dev/skep/internal/errkind"
)

// maxRuleCost bounds what one evaluation may do, in the units of CEL: about one for each step. Every node stops at the same one.
const maxRuleCost = 100_000

// errUnset is why an expression has no value: it read a field that has none.
var errUnset = errors.New("the field is unset")

// Eval reports whether a rule holds for an entity's fields, which are normalized values by name. A rule that reads an unset field holds,
// as a CHECK of SQL does, unless it asked has(self.field) before: a rule says what values must be like, and not that there must be some.
// An error is that of the expression with these values, as a division by zero: the rule does not hold then.
//
// The same fields give the same answer everywhere and always: rules know no time, no other entities and no chance.
func (r *Rule) Eval(fields map[string]any) (bool, error) {
	out, _, err := r.program.Eval(map[string]any{"self": fields})
	switch {
	case errors.Is(err, errUnset):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("rule %q: %w: %w", r.Name, err, errkind.Invalid)
	}
	holds, ok := out.Value().(bool)
	if !ok {
		panic("bug: a rule's expression is no bool")
	}
	return holds, nil
}

// rules compiles the rules of a schema's entities. Each entity is a type of its own to CEL, whose fields are those of the entity, so that
// a misspelt field or a comparison of a string with a number is found when the schema is read.
type rules struct {
	*types.Registry
	entities map[string]map[string]*types.FieldType
	env      *cel.Env
}

func newRules() *rules {
	registry, err := types.NewRegistry()
	if err != nil {
		panic("bug: CEL has no types: " + err.Error())
	}
	r := &rules{Registry: registry, entities: map[string]map[string]*types.FieldType{}}
	r.env, err = cel.NewCustomEnv(
		// Without timestamps nothing needs a database of time zones, which is not the same on all machines.
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction("timestamp")))),
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(r),
		cel.EnableIdentifierEscapeSyntax(),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxRuleBytes),
	)
	if err != nil {
		panic("bug: CEL cannot be set up: " + err.Error())
	}
	return r
}

// typeName is what CEL calls an entity's type. No expression can write it, and so make such an entity.
func typeName(entity string) string { return "entity " + entity }

// add makes a type of an entity, and returns where its rules are compiled.
func (r *rules) add(e *Entity) *cel.Env {
	fields := map[string]*types.FieldType{}
	for _, f := range e.Fields {
		fields[f.Name] = &types.FieldType{
			Type: celType(f.Type),
			IsSet: func(target any) bool {
				values, _ := target.(map[string]any)
				return values[f.Name] != nil
			},
			GetFrom: func(target any) (any, error) {
				values, _ := target.(map[string]any)
				v := values[f.Name]
				if v == nil {
					return nil, fmt.Errorf("self.%s: %w", f.Name, errUnset)
				}
				return celValue(f.Type, v), nil
			},
		}
	}
	r.entities[typeName(e.Name)] = fields
	env, err := r.env.Extend(cel.Variable("self", cel.ObjectType(typeName(e.Name))))
	if err != nil {
		panic("bug: CEL takes no entity: " + err.Error())
	}
	return env
}

// compile makes an expression ready for Eval.
func compile(env *cel.Env, check string) (cel.Program, error) {
	ast, issues := env.Compile(check)
	if issues != nil && len(issues.Errors()) > 0 {
		first := issues.Errors()[0]
		text, _, _ := strings.Cut(first.Message, "\n")
		return nil, fmt.Errorf("%s (line %d, column %d of the expression)", text, first.Location.Line(), first.Location.Column()+1)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, fmt.Errorf("it is a %s, and has to be a bool: write a comparison", ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(maxRuleCost), cel.EvalOptions(cel.OptOptimize))
}

func celType(t Type) *types.Type {
	switch t.Kind {
	case String, Ref:
		return cel.StringType
	case Int:
		return cel.IntType
	case Float:
		return cel.DoubleType
	case Bool:
		return cel.BoolType
	case Duration:
		return cel.DurationType
	case List:
		return cel.ListType(celType(t.Element()))
	case Map:
		return cel.MapType(cel.StringType, celType(t.Element()))
	default:
		return cel.DynType
	}
}

// celValue returns a normalized value as CEL has it: durations are no strings there.
func celValue(t Type, v any) any {
	switch v := v.(type) {
	case string:
		if t.Kind == Duration {
			d, err := ParseDuration(v)
			if err != nil {
				return types.WrapErr(err)
			}
			return d
		}
	case []any:
		if durations(t) {
			out := make([]any, len(v))
			for i, e := range v {
				out[i] = celValue(t.Element(), e)
			}
			return out
		}
	case map[string]any:
		if durations(t) {
			out := make(map[string]any, len(v))
			for key, e := range v {
				out[key] = celValue(t.Element(), e)
			}
			return out
		}
	}
	return v
}

// durations reports whether a value of a type has durations in it.
func durations(t Type) bool { return t.bounded().Kind == Duration }

// FindStructType implements types.Provider. Messages of protocol buffers are no types here: with them timestamps would come back.
func (r *rules) FindStructType(name string) (*types.Type, bool) {
	_, ok := r.entities[name]
	return types.NewTypeTypeWithParam(types.NewObjectType(name)), ok
}

// FindStructFieldType implements types.Provider.
func (r *rules) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	f, ok := r.entities[name][field]
	return f, ok
}
