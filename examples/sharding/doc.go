// Package sharding moves one tenant's rows from one server to another while the source is
// written: the rows of tables that have a sharding key, the rows of other tables that those
// point to (joined tables), and the tenant's own row of tables keyed by tenant (primary key
// tables). Rows of other tenants may be on both servers; none of them is touched.
//
//	config, err := sharding.ReadConfig(file)
//	ferry, err := sharding.NewFerry(config)
//	err = ferry.InitializeContext(ctx)
//	err = ferry.StartContext(ctx)
//	err = ferry.RunContext(ctx) // cuts over by itself: CutoverLock, CutoverUnlock
package sharding
