package main

import (
	"context"
	"database/sql"
)

// loadZone gives both servers a time zone with a fold: at 2024-10-27 01:00 UTC its clocks
// go back from 03:00 to 02:00.
func loadZone(ctx context.Context, w *world) error {
	for _, db := range []*sql.DB{w.sourceDB, w.targetDB} {
		err := run(ctx, db, "USE mysql",
			"INSERT INTO time_zone (Time_zone_id,Use_leap_seconds) VALUES (9001,'N')",
			"INSERT INTO time_zone_name (Name,Time_zone_id) VALUES ('Test/Fold',9001)",
			"INSERT INTO time_zone_transition_type (Time_zone_id,Transition_type_id,`Offset`,Is_DST,Abbreviation) VALUES (9001,0,3600,0,'CET'),(9001,1,7200,1,'CEST')",
			"INSERT INTO time_zone_transition (Time_zone_id,Transition_time,Transition_type_id) VALUES (9001,1711846800,1),(9001,1729990800,0)")
		if err != nil {
			return err
		}
	}
	return nil
}
