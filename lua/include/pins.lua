-- What a dict or list holds: pin, object, ...
local function pins_of(fields)
  local pins = {}
  -- Bounded by the references in its values.
  for i = 1, #fields, 2 do
    local pin = string.match(fields[i], '^p:(.+)')
    if pin then
      pins[#pins + 1] = pin
      pins[#pins + 1] = fields[i + 1]
    end
  end
  return pins
end
