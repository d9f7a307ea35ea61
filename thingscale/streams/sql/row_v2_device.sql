'{"_id":"' || _id || '","tag":' || coalesce(to_json(tag)::text, 'null')
|| ',"device_id":' || coalesce(to_json(device_id)::text, 'null')
|| ',"value":' || value::text || ',"at":"' || shown_at || '"}'
