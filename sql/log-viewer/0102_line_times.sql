-- Times that the lines of text files state.

-- corrected_times: number of lines whose times were over ten minutes ahead and were replaced with the time of reading.
INSERT INTO counters (name, value) VALUES ('corrected_times', 0);
