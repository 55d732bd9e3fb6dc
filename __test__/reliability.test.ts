/** The runs on real processes, each a small part of itself with a seed of its own: `npm run reliability` does them in full. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { outcome, REPOSITORY } from './fixture.js'

const FOLDER = join(REPOSITORY, '__test__/reliability')

for (const [name, promise] of [
  ['crash-matrix', 'what was acknowledged survives a kill before and after a call, and a call that fails'],
  ['kill-loop', 'what was acknowledged survives kills at any moment, and clients go on'],
  ['kv-kill-loop', 'keys survive kills at any moment as they were acknowledged'],
  ['path-races', 'nothing outside is read or changed while paths change'],
  ['hostile-peers', 'slow, silent and boasting peers cost little memory and keep nobody away'],
  ['kv-crowd', 'as many connections to keys as there may be are answered all at once'],
] as const) {
  test.serial(promise, async (t) => {
    const { SHORT } = await import(join(FOLDER, 'short.mjs'))
    const script = [join(FOLDER, `${name}.mjs`), '--json', ...SHORT[name]]
    const child = spawn(process.execPath, script, { stdio: ['ignore', 'pipe', 'pipe'] })
    t.teardown(() => child.kill('SIGTERM'))
    const { code, stdout, stderr } = await outcome(child)
    t.is(code, 0, stderr)
    const { skipped, violations } = JSON.parse(stdout)
    if (skipped) t.log(`skipped: ${skipped}`)
    t.deepEqual(violations, [], stderr)
  })
}
