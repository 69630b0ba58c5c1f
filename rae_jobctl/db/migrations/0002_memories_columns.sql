-- Three columns on RAE's memories. No row is rewritten: the defaults are constant at the moment of the ALTER.
-- mode: locking
-- needs-image: 2

-- step: columns
-- What exists is not pending: true for old rows, false for those that come. Decay begins with the day of the migration; a new
-- row's day is its own, because now() is only stable: PostgreSQL evaluates it once for the old rows and keeps it as the default.
ALTER TABLE memories
    ADD COLUMN IF NOT EXISTS graph_extracted boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS decayed_through date NOT NULL DEFAULT ((now() AT TIME ZONE 'UTC')::date),
    ADD COLUMN IF NOT EXISTS importance_decayed_through date NOT NULL DEFAULT ((now() AT TIME ZONE 'UTC')::date);
ALTER TABLE memories
    ALTER COLUMN graph_extracted SET DEFAULT false;
