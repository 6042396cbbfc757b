-- Points received from clients in each hour of the last day, by time of arrival.
CREATE TABLE received (
    hour INTEGER PRIMARY KEY,
    points INTEGER NOT NULL
);

-- Finds the overflow series, which receive the points over a cardinality limit.
CREATE INDEX series_overflow ON series (name) WHERE labels = '{"overflow":"true"}';
