-- The value as an object with keys of v1: itself, if it has only such keys; otherwise all of it under `value`.
CASE
    WHEN jsonb_typeof(value) <> 'object' THEN jsonb_build_object('value', value)
    WHEN value <> '{}' AND value - '{value,value2,value3,value4}'::text[] = '{}' THEN value
    ELSE jsonb_build_object('value', value)
END
