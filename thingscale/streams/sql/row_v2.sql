'{"_id":"' || _id || '","tag":' || coalesce(to_json(tag)::text, 'null')
|| ',"value":' || value::text || ',"at":"' || shown_at || '"}'
