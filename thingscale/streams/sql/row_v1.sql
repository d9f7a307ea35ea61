'{"_id":"' || _id
|| '","value":' || coalesce((value -> 'value')::text, 'null')
|| ',"value2":' || coalesce((value -> 'value2')::text, 'null')
|| ',"value3":' || coalesce((value -> 'value3')::text, 'null')
|| ',"value4":' || coalesce((value -> 'value4')::text, 'null')
|| ',"at":"' || shown_at || '"}'
