-- All series of a metric together: its whole. A metric that has had several series has rows of its whole in the tiers,
-- under its number below zero, from an hour on. They hold every point of that hour and of all later ones.
CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    project TEXT NOT NULL,
    from_hour INTEGER NOT NULL,
    UNIQUE (name, type, project)
);

-- The point up to which points are in wholes. Where it is not rolled_up, a program that knows no wholes has rolled up.
INSERT INTO totals (name, value) VALUES ('whole_up_to', -1);
