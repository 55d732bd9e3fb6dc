/** A client of keys that is not written in JavaScript. */
import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { serve } from 'xferd'
import { folder, outcome, REPOSITORY } from './fixture.js'

/** The one that Debian's packages are for is not always the first that is found. */
const PYTHON = ['python3', '/usr/bin/python3'].find(
  (python) => spawnSync(python, ['-c', 'import redis']).status === 0,
)

test('redis-py connects, pipelines, transacts, subscribes and comes back', async (t) => {
  if (!PYTHON) {
    t.log('skipped: there is no Python with redis-py (apt-get install python3-redis)')
    return t.pass()
  }
  const [socket, password] = [join(folder(t), 'kv.sock'), 'open sesame']
  const server = await serve({ listen: ['kv://127.0.0.1:0', `kv+unix://${socket}`], kv: { password } })
  t.teardown(() => server.close({ graceMs: 0 }))
  const port = new URL(server.addresses[0].replace('kv:', 'http:')).port
  const script = join(REPOSITORY, '__test__/python-client.py')
  const { code, stdout, stderr } = await outcome(spawn(PYTHON, [script, port, password, socket]))
  t.is(code, 0, stderr)
  t.is(stdout, 'well\n')
})
