-- The value as an object of v1's keys: its own, or else the value as it is below the first of them.
CASE
    WHEN jsonb_typeof(value) <> 'object' THEN jsonb_build_object('value', value)
    WHEN value <> '{}' AND value - '{value,value2,value3,value4}'::text[] = '{}' THEN value
    ELSE jsonb_build_object('value', value)
END
