-- How many points clients sent, by the hour of their arrival, of the last day.
CREATE TABLE received (
    hour INTEGER PRIMARY KEY,
    points INTEGER NOT NULL
);

-- The series that take what is over a cap.
CREATE INDEX series_overflow ON series (name) WHERE labels = '{"overflow":"true"}';
