package rpc

import (
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/skep-dev/skep/internal/config/rpc/confluxv1"
	"github.com/skep-dev/skep/internal/config/wire"
	"github.com/skep-dev/skep/internal/errkind"
)

// maxDepth is how deep values are nested.
const maxDepth = 64

// plain returns a value as the engine has it.
func plain(v *confluxv1.Value, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("a value is nested deeper than %d: %w", maxDepth, errkind.Invalid)
	}
	switch k := v.GetKind().(type) {
	case *confluxv1.Value_Null:
		return nil, nil //nolint:nilnil // it is the value
	case *confluxv1.Value_Bool:
		return k.Bool, nil
	case *confluxv1.Value_Int:
		return k.Int, nil
	case *confluxv1.Value_Float:
		return k.Float, nil
	case *confluxv1.Value_String_:
		return k.String_, nil
	case *confluxv1.Value_List:
		list := make([]any, len(k.List.GetValues()))
		for i, e := range k.List.GetValues() {
			var err error
			if list[i], err = plain(e, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *confluxv1.Value_Map:
		m := make(map[string]any, len(k.Map.GetValues()))
		for key, e := range k.Map.GetValues() {
			var err error
			if m[key], err = plain(e, depth+1); err != nil {
				return nil, err
			}
		}
		return m, nil
	}
	return nil, fmt.Errorf("a value says nothing: to unset a field, send null: %w", errkind.Invalid)
}

// toWire is plain of a value that may not be there.
func toWire(v *confluxv1.Value) (*wire.Value, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	a, err := plain(v, 0)
	return &wire.Value{Any: a}, err
}

func toWires(list []*confluxv1.Value) ([]wire.Value, error) {
	if len(list) == 0 {
		return nil, nil
	}
	all := make([]wire.Value, len(list))
	for i, v := range list {
		a, err := plain(v, 0)
		if err != nil {
			return nil, err
		}
		all[i] = wire.Value{Any: a}
	}
	return all, nil
}

// message returns a value as a message.
func message(v any) *confluxv1.Value {
	switch v := v.(type) {
	case bool:
		return &confluxv1.Value{Kind: &confluxv1.Value_Bool{Bool: v}}
	case int64:
		return &confluxv1.Value{Kind: &confluxv1.Value_Int{Int: v}}
	case float64:
		return &confluxv1.Value{Kind: &confluxv1.Value_Float{Float: v}}
	case string:
		return &confluxv1.Value{Kind: &confluxv1.Value_String_{String_: v}}
	case []any:
		list := &confluxv1.ListValue{Values: make([]*confluxv1.Value, len(v))}
		for i, e := range v {
			list.Values[i] = message(e)
		}
		return &confluxv1.Value{Kind: &confluxv1.Value_List{List: list}}
	case map[string]any:
		m := &confluxv1.MapValue{Values: make(map[string]*confluxv1.Value, len(v))}
		for k, e := range v {
			m.Values[k] = message(e)
		}
		return &confluxv1.Value{Kind: &confluxv1.Value_Map{Map: m}}
	case nil:
		return &confluxv1.Value{Kind: &confluxv1.Value_Null{Null: structpb.NullValue_NULL_VALUE}}
	}
	panic(fmt.Sprintf("bug: a value of type %T", v))
}

func fromWire(v *wire.Value) *confluxv1.Value {
	if v == nil {
		return nil
	}
	return message(v.Any)
}

// operation reads what is wanted.
func operation(op *confluxv1.Operation) (out wire.Operation, err error) {
	out = wire.Operation{
		Type: op.GetType(), EntityID: op.GetEntityId(), Field: op.GetField(), Key: op.GetKey(), Environment: op.GetEnvironment(), Override: op.GetOverride(),
		Parent: op.GetParent(), Before: op.GetBefore(), After: op.GetAfter(), Position: op.GetPosition(), Restore: op.GetRestore(), Cascade: op.GetCascade(),
		MustExist: op.GetMustExist(), From: op.GetFrom(), To: op.GetTo(), Entities: op.GetEntities(), Only: op.GetOnly(), AnyPath: op.GetAnyPath(),
		Prune: op.GetPrune(), Schema: op.GetSchema(), Base: op.GetBase(), Expect: op.GetExpect(), Intent: op.GetIntent(), Via: op.GetVia(),
	}
	if s := op.GetSigned(); s != nil {
		out.Signed = &wire.Signature{Key: s.GetKey(), Body: s.GetBody(), Sig: s.GetSig()}
	}
	if out.Value, err = toWire(op.GetValue()); err == nil {
		out.ChosenValue, err = toWire(op.GetChosenValue())
	}
	if err == nil {
		out.Add, err = toWires(op.GetAdd())
	}
	if err == nil {
		out.Remove, err = toWires(op.GetRemove())
	}
	if err != nil {
		return out, err
	}
	for name, v := range op.GetFields() {
		a, err := plain(v, 0)
		if err != nil {
			return out, fmt.Errorf("field %q: %w", name, err)
		}
		if out.Fields == nil {
			out.Fields = map[string]wire.Value{}
		}
		out.Fields[name] = wire.Value{Any: a}
	}
	return out, nil
}

func result(r *wire.Result) *confluxv1.Result {
	return &confluxv1.Result{Id: r.ID, Seq: r.Seq, Hlc: r.HLC, Writes: writes(r.Writes), Version: r.Version, Now: fromWire(r.Now)}
}

func writes(list []wire.Write) []*confluxv1.Write {
	out := make([]*confluxv1.Write, len(list))
	for i := range list {
		w := &list[i]
		out[i] = &confluxv1.Write{
			EntityId: w.EntityID, Field: w.Field, Key: w.Key, Environment: w.Environment, Do: w.Do, Old: fromWire(w.Old), Value: fromWire(w.Value),
		}
	}
	return out
}

func entity(e *wire.Entity) *confluxv1.Entity {
	out := &confluxv1.Entity{
		Id: e.ID, Type: e.Type, Parent: e.Parent, Position: e.Position, Environment: e.Environment, Conflicts: e.Conflicts, Version: e.Version,
		Fields: make(map[string]*confluxv1.Value, len(e.Fields)),
	}
	for name, v := range e.Fields {
		out.Fields[name] = message(v.Any)
	}
	return out
}

func event(e *wire.Event) *confluxv1.WatchStateResponse {
	out := &confluxv1.WatchStateResponse{Cursor: e.Cursor, Changes: make([]*confluxv1.FieldChange, len(e.Changes))}
	if op := e.Operation; op != nil {
		out.Operation = &confluxv1.Record{
			Seq: op.Seq, Id: op.ID, Hlc: op.HLC, Time: op.Time, Type: op.Type, Intent: op.Intent, From: op.From, To: op.To, Via: op.Via,
			Actor: &confluxv1.Actor{Id: op.Actor.ID, Class: op.Actor.Class, DisplayName: op.Actor.Name}, Writes: writes(op.Writes),
		}
	}
	for i := range e.Changes {
		c := &e.Changes[i]
		out.Changes[i] = &confluxv1.FieldChange{
			EntityId: c.EntityID, Field: c.Field, Environment: c.Environment, Value: fromWire(c.Value), Removed: c.Removed, Conflict: c.Conflict,
		}
	}
	return out
}
