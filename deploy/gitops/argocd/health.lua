-- Health of a RollupJob or a RollupStore for Argo CD. The conditions follow kstatus: Ready, Reconciling, Stalled.
--
-- A job that is stopped because it was asked to be is Healthy, never Suspended: a sync waits for what is suspended.
local function condition(name)
  for _, each in ipairs(obj.status.conditions or {}) do
    if each.type == name then
      return each
    end
  end
  return nil
end

local status = obj.status
if status == nil or (status.observedGeneration or -1) ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen this version yet" }
end
local ready = condition("Ready")
local stalled = condition("Stalled")
if stalled ~= nil and stalled.status == "True" then
  return { status = "Degraded", message = stalled.reason .. ": " .. stalled.message }
end
if ready ~= nil and ready.status == "True" then
  return { status = "Healthy", message = ready.reason .. ": " .. ready.message }
end
if ready ~= nil then
  return { status = "Progressing", message = ready.reason .. ": " .. ready.message }
end
return { status = "Progressing", message = "the operator has not said yet whether it is ready" }
