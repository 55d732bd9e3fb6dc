// `npm run nightly`: everything that takes too long for `npm test`, one after the other, with what came of each and exit code 1 if
// anything was found. `-- --minutes N` is how long fresh seeds and each fuzz target are tried (10 and 3 unless given);
// `-- --only NAME,NAME` takes some of it.
import { spawn, spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { build, install, installPrograms, whyNoUring } from './setup.mjs'

const { values } = parseArgs({ options: { minutes: { type: 'string' }, only: { type: 'string' } } })
const seconds = (byDefault) => Math.round(60 * Number(values.minutes ?? byDefault))
if (!(seconds(1) > 0)) throw new Error(`--minutes is a number above 0, not ${values.minutes}`)

const FUZZ_TARGETS = [
  'wire_decode',
  'hello',
  'frame',
  'path',
  'resp_request',
  'resp_reply',
  'journal',
  'server',
  'client',
  'aof',
  'rdb',
]
const steps = [
  { name: 'simulate', command: `npm run --silent simulate -- --seconds ${seconds(10)}` },
  { name: 'defects', command: 'npm run --silent simulate -- --defect all' },
  ...['crash-matrix', 'kill-loop', 'kv-kill-loop', 'path-races', 'kv-crowd'].flatMap((name) =>
    ['mio', 'uring'].map((backend) => ({
      name: `${name}-${backend}`,
      command: `npm run --silent ${name} -- --backend ${backend}`,
      skip: backend === 'uring' ? whyNoUring : undefined,
    })),
  ),
  {
    name: 'hostile-peers',
    command: 'npm run --silent hostile-peers',
    skip: () => process.getuid?.() !== 0 && 'needs root for a memory cgroup',
  },
  { name: 'miri', command: 'npm run --silent miri', skip: () => missing('cargo', '+nightly', 'miri') },
  { name: 'loom', command: 'npm run --silent loom' },
  ...FUZZ_TARGETS.map((target) => ({
    name: `fuzz-${target}`,
    command: `cargo +nightly fuzz run -s none ${target} -- -max_total_time=${seconds(3)}`,
    skip: () => missing('cargo', '+nightly', 'fuzz'),
  })),
]
const only = values.only?.split(',')
const unknown = only?.find((name) => !steps.some((step) => step.name === name))
if (unknown) throw new Error(`there is no ${unknown}; there are ${steps.map(({ name }) => name).join(', ')}`)

install()
installPrograms()
build()
const results = []
for (const { name, command, skip } of steps.filter((step) => only?.includes(step.name) ?? true)) {
  const reason = await skip?.()
  if (reason) {
    results.push(`skipped  ${name}: ${reason}`)
    continue
  }
  console.log(`\n> ${command}`)
  const startMs = performance.now()
  const isFine = await succeeds(command)
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1)
  if (!isFine) process.exitCode = 1
  results.push(`${isFine ? 'ok      ' : 'FAILED  '} ${name} (${minutes} min)${isFine ? '' : `: ${command}`}`)
}
console.log(`\n${results.join('\n')}`)

function succeeds(command) {
  return new Promise((resolve) => {
    spawn(command, { shell: true, stdio: ['ignore', 'inherit', 'inherit'] }).on('exit', (code) =>
      resolve(code === 0),
    )
  })
}

/** Why a subcommand of cargo cannot be run, if so. */
function missing(...command) {
  const { status } = spawnSync(command[0], [...command.slice(1), '--version'])
  return status !== 0 && `${command.join(' ')} is not installed`
}
