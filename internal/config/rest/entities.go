package rest

import (
	"context"
	"net/http"

	"github.com/skep-dev/skep/internal/config/wire"
)

// SettingField is what a field is set to.
type SettingField struct {
	Writing
	Entity string `path:"entity" maxLength:"512"`
	Field  string `path:"field" maxLength:"256"`
}

// FieldValue is a field's new value.
type FieldValue struct {
	Value       *wire.Value `json:"value"`
	Environment string      `json:"environment,omitempty"`
	Env         string      `json:"env,omitempty"`
	Intent      string      `json:"intent,omitempty"`
}

func (a *routes) entities() {
	handle(a, a.op(http.MethodGet, "/entities", "entities", "Read the entities of an environment"), a.readState)
	handle(a, a.op(http.MethodGet, "/entities/{entity}", "entities-one", "Read one entity"), a.readEntity)
	handleBody(a, a.op(http.MethodPut, "/entities/{entity}/fields/{field}", "entities-set", "Set a field"), a.setField)
}

func (a *routes) setField(ctx context.Context, c *Caller, in *SettingField, v *FieldValue) (*Written[wire.Result], error) {
	return a.submit(ctx, c, &in.Writing, &wire.Operation{
		Type: "set_field", EntityID: in.Entity, Field: in.Field, Value: v.Value, Environment: v.Environment, Env: v.Env, Intent: v.Intent,
	})
}
