// `npm run bench:paired`: is this checkout slower or faster than another commit, by the clock?
//
// Both are built and serve at the same time; their clients take turns, base head head base, so that what drifts hits both
// alike. Before that the base runs against itself. If even that shows a difference of more than 3 %, the machine is too
// restless to say anything. Whatever the verdict, this fails nothing: only counts do (`npm run bench:check`).
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { warm, writeRandomFile, writeRandomTree } from '../cli/bench/disk.mjs'
import { run, stop } from '../cli/bench/processes.mjs'
import { baseCommit, build, builtCheckoutOf, git, ROOT } from './gate/checkout.mjs'
import { ratioOf, timeVerdict } from './gate/verdict.mjs'
import { temporaryFolder } from './temporary-folder.mjs'
import { serve, xferdOf } from './xferd.mjs'

const HELP = `Compares the time that pushes take with that of another commit, and tells the ratio.

  npm run bench:paired -- [--base REF] [--rounds N]

  --base REF   the commit to compare with; unless given, the one that npm run bench:check would take, or the last
  --rounds N   of base, head, head, base; 10 unless given
  --help       this text

The base is built below target/bench, once. Files go to the temporary folder; TMPDIR=/elsewhere takes another disk.`

const LOADS = {
  'a file of 469.2 MB': (path) => writeRandomFile(path, 469_200_000),
  'a tree of 5,000 files of 4 KiB': (path) =>
    writeRandomTree(path, { folders: 50, filesPerFolder: 100, fileBytes: 4096 }),
}

const options = readOptions()
if (options.help) {
  console.log(HELP)
  process.exit()
}
const folder = temporaryFolder('paired')

const commit = git('rev-parse', '--verify', `${options.base ?? baseCommit() ?? 'HEAD~1'}^{commit}`)
const base = builtCheckoutOf(commit)
const head = build(ROOT)
const sides = {
  base: await sideOf('base', base),
  twin: await sideOf('twin', base),
  head: await sideOf('head', head),
}
console.log(`head against ${commit.slice(0, 10)}, ${options.rounds} rounds: time of head over time of base`)
for (const [title, write] of Object.entries(LOADS)) {
  const source = join(folder, 'source')
  await write(source)
  await warm(source)
  const control = ratioOf(await pairs(source, sides.base, sides.twin))
  const measured = ratioOf(await pairs(source, sides.base, sides.head))
  console.log(`${title}: ${timeVerdict(control, measured)}`)
  console.log(`  head ${shown(measured)}, base against itself ${shown(control)}`)
  rmSync(source, { recursive: true })
}
for (const { server } of Object.values(sides)) await stop(server)

async function pairs(source, base, head) {
  // The first push of a server finds nothing warm.
  for (const side of [base, head]) await push(source, side)
  const pairs = []
  for (let round = 0; round < options.rounds; round++) {
    const [first, second, third, fourth] = [
      await push(source, base),
      await push(source, head),
      await push(source, head),
      await push(source, base),
    ]
    pairs.push({ base: first, head: second }, { base: fourth, head: third })
  }
  return pairs
}

async function sideOf(name, { checkout }) {
  const root = join(folder, name)
  mkdirSync(root)
  const xferd = xferdOf(checkout)
  return { root, xferd, ...(await serve(xferd, root)) }
}

/** Seconds from the first byte to the last acknowledgement. What was stored is removed before it reaches the disk. */
async function push(source, { root, xferd, address }) {
  const { stdout } = await run(...xferd, 'push', source, `${address}/copy`, '--json')
  rmSync(join(root, 'copy'), { recursive: true })
  return JSON.parse(stdout).seconds
}

function shown({ ratio, low, high }) {
  return `${ratio.toFixed(3)} (95 %: ${low.toFixed(3)} to ${high.toFixed(3)})`
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        base: { type: 'string' },
        rounds: { type: 'string', default: '10' },
        help: { type: 'boolean', default: false },
      },
    })
    const rounds = Number(values.rounds)
    if (!Number.isInteger(rounds) || rounds < 1)
      throw new Error(`--rounds ${values.rounds} is not a number of rounds`)
    return { ...values, rounds }
  } catch (error) {
    console.error(`${error.message}\nnpm run bench:paired -- --help tells the options.`)
    process.exit(2)
  }
}
