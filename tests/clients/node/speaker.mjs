/**
 * Speaks to the endpoint with Elasticsearch's JavaScript client, as told by lines of stdin, as speaker.py does in Python.
 */

import { createInterface } from 'node:readline'
import { Client, errors } from '@elastic/elasticsearch'

const CALLS = {
  info: (client) => client.info(),
  search: (client, { index, body }) => client.search({ index, ...body }),
  msearch: (client, { body }) => client.msearch({ searches: body }),
  field_caps: (client, { index, fields }) => client.fieldCaps({ index, fields }),
  rollup_search: (client, { index, body }) => client.rollup.rollupSearch({ index, ...body }),
  put_job: (client, { id, body }) => client.rollup.putJob({ id, ...body }),
  get_jobs: (client, { id }) => client.rollup.getJobs({ id }),
  start_job: (client, { id }) => client.rollup.startJob({ id }),
  stop_job: (client, { id }) => client.rollup.stopJob({ id, wait_for_completion: true, timeout: '10s' }),
  delete_job: (client, { id }) => client.rollup.deleteJob({ id })
}

const clients = new Map()

function clientOf ({ url, token, patience }) {
  const key = JSON.stringify([url, token, patience])
  if (!clients.has(key)) {
    const client = new Client({ node: url, auth: { bearer: token }, requestTimeout: patience * 1000 })
    const known = { client, sent: [] }
    client.diagnostic.on('response', (_, event) => {
      known.sent.push(`${event.meta.request.params.method} ${event.statusCode}`)
    })
    clients.set(key, known)
  }
  return clients.get(key)
}

function classes (error) {
  const names = []
  for (let of = Object.getPrototypeOf(error); of !== Object.prototype; of = Object.getPrototypeOf(of)) {
    names.push(of.constructor.name)
  }
  return names
}

async function outcome (order) {
  const { client, sent } = clientOf(order)
  const begun = performance.now()
  const found = {}
  sent.length = 0
  try {
    found.answer = await CALLS[order.name](client, order.arguments)
  } catch (e) {
    Object.assign(found, { raised: classes(e), text: e.message })
    if (e instanceof errors.ResponseError) {
      Object.assign(found, { status: e.statusCode, error: e.body?.error?.type ?? '', info: e.body })
    }
  }
  return { ...found, seconds: (performance.now() - begun) / 1000, sent: [...sent], warnings: [] }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))))
}
await Promise.all([...clients.values()].map(({ client }) => client.close()))
