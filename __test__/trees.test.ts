import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { XferdError } from 'xferd'
import { address, namesBelow, pair, randomFile, sameContent, xferd } from './fixture.js'

/** A tree with one of everything: sizes from none to several buffers, depth, modes, old times, links, hard names. */
function plant(tree: string): void {
  mkdirSync(join(tree, 'empty folder/below'), { recursive: true })
  writeFileSync(join(tree, 'empty file'), '')
  randomFile(join(tree, 'a/b/c/d/e/deep'), 10)
  randomFile(join(tree, 'large'), 5_000_000)
  for (const name of ['ünïcödé', '漢字', 'back\\slash', 'new\nline', "quo'te", ' space ', '.hidden', '*']) {
    randomFile(join(tree, 'names', name), 100)
  }
  for (let index = 0; index < 300; index++) randomFile(join(tree, 'many', `${index}`), index)
  chmodSync(randomFile(join(tree, 'modes/private'), 1), 0o600)
  chmodSync(randomFile(join(tree, 'modes/program'), 1), 0o755)
  chmodSync(randomFile(join(tree, 'modes/constant'), 1), 0o444)
  utimesSync(randomFile(join(tree, 'old'), 1), 1_000_000_000, 1_000_000_000.123)
  symlinkSync('large', join(tree, 'link'))
  symlinkSync('../large', join(tree, 'a/up'))
  symlinkSync('nowhere', join(tree, 'dangling'))
}

function describe(tree: string): Record<string, unknown> {
  return Object.fromEntries(
    namesBelow(tree).map((name) => {
      const path = join(tree, name)
      const stat = lstatSync(path)
      if (stat.isSymbolicLink()) return [name, readlinkSync(path)]
      if (stat.isDirectory()) return [name, stat.mode]
      return [name, [stat.mode, Math.floor(stat.mtimeMs), readFileSync(path).toString('base64')]]
    }),
  )
}

for (const streams of [1, 3]) {
  test(`a tree arrives as it was over ${streams} connections, both ways`, async (t) => {
    const { client, here, root } = await pair(t)
    plant(join(here, 'tree'))
    const pushed = await client.push(join(here, 'tree'), 'copy', { streams })
    const pulled = await client.pull('copy', join(here, 'back'), { streams })
    t.deepEqual(describe(join(root, 'copy')), describe(join(here, 'tree')))
    t.deepEqual(describe(join(here, 'back')), describe(join(here, 'tree')))
    t.is(pushed.files, 315)
    t.is(pushed.links, 3)
    t.is(pulled.files, pushed.files)
    t.is(pulled.bytes, pushed.bytes)
    t.is(pushed.failed, 0)
  })
}

test('a link that leads out of the root is refused, and the rest arrives', async (t) => {
  const { client, here, root } = await pair(t)
  randomFile(join(here, 'tree/good'), 10)
  symlinkSync('/etc/passwd', join(here, 'tree/absolute'))
  symlinkSync('../../../../etc/passwd', join(here, 'tree/upwards'))
  const error = await t.throwsAsync<XferdError>(async () => client.push(join(here, 'tree'), 'copy'), {
    code: 'PARTIAL',
  })
  t.deepEqual(
    error?.receipt?.failures.map(({ error }) => error.code),
    ['LINK_ESCAPES', 'LINK_ESCAPES'],
  )
  t.deepEqual(namesBelow(root), ['copy', 'copy/good'])
})

test('a name that is not UTF-8 is a clear error, and the rest arrives', async (t) => {
  const { client, here, root } = await pair(t)
  randomFile(join(here, 'tree/good'), 10)
  const bad = Buffer.concat([Buffer.from(join(here, 'tree/bad-')), Buffer.of(0xff)])
  try {
    writeFileSync(bad, 'x')
  } catch {
    t.pass('this file system allows no such names')
    return
  }
  const error = await t.throwsAsync<XferdError>(async () => client.push(join(here, 'tree'), 'copy'), {
    code: 'PARTIAL',
  })
  t.is(error?.receipt?.files, 1)
  t.is(error?.receipt?.failed, 1)
  t.is(error?.receipt?.failures[0]?.error.code, 'NAME_NOT_UTF8')
  t.regex(error?.message ?? '', /bad-/)
  t.deepEqual(namesBelow(root), ['copy', 'copy/good'])
})

test('a listing shows what it can and says what it cannot', async (t) => {
  const { root, server, client } = await pair(t)
  randomFile(join(root, 'good'), 10)
  writeFileSync(Buffer.concat([Buffer.from(join(root, 'bad-')), Buffer.of(0xff)]), 'x')
  const error = await t.throwsAsync<XferdError>(async () => client.list(), { code: 'PARTIAL' })
  t.deepEqual(
    error?.entries?.map(({ path }) => path),
    ['good'],
  )
  t.regex(error?.message ?? '', /bad-/)
  const { code, stdout, stderr } = await xferd('ls', address(server))
  t.is(code, 6)
  t.regex(stdout, /good/)
  t.regex(stderr, /bad-/)
})

test('globs choose what is transferred', async (t) => {
  const { client, here, root } = await pair(t)
  for (const name of ['a.jpg', 'a.tmp', 'd/b.jpg', 'd/b.txt', 'cache/c.jpg'])
    randomFile(join(here, 'tree', name), 5)
  const files = (): string[] => namesBelow(root).filter((name) => lstatSync(join(root, name)).isFile())
  const tree = join(here, 'tree')
  await client.push(tree, 'x', { include: ['**/*.jpg', '**/*.txt'], exclude: ['cache/**'] })
  t.deepEqual(files(), ['x/a.jpg', 'x/d/b.jpg', 'x/d/b.txt'])
  await client.pull('x', join(here, 'y'), { exclude: ['*.jpg', '**/*.jpg'] })
  t.deepEqual(namesBelow(join(here, 'y')), ['d', 'd/b.txt'])
})

test('a dry run tells what it would do and does nothing', async (t) => {
  const { client, here, root } = await pair(t)
  randomFile(join(here, 'tree/a'), 10)
  randomFile(join(here, 'tree/b'), 20)
  const { files, bytes } = await client.push(join(here, 'tree'), 'copy', { dryRun: true })
  t.is(files, 2)
  t.is(bytes, 30)
  t.deepEqual(namesBelow(root), [])
})

test('several clients send copies under names of their own', async (t) => {
  const { client, here, root } = await pair(t)
  const source = randomFile(join(here, 'source'), 3_000_000)
  for (const mmap of [false, true]) {
    const { files, bytes } = await client.push(source, `${mmap}/name`, { clients: 3, mmap })
    t.is(files, 3)
    t.is(bytes, 9_000_000)
  }
  await client.push(source, 'n/copy-{n}.bin', { clients: 2 })
  t.deepEqual(
    namesBelow(root).filter((name) => name.includes('/')),
    [
      'false/name.0',
      'false/name.1',
      'false/name.2',
      'n/copy-0.bin',
      'n/copy-1.bin',
      'true/name.0',
      'true/name.1',
      'true/name.2',
    ],
  )
  for (const name of namesBelow(root).filter((name) => name.includes('/'))) {
    t.true(sameContent(source, join(root, name)), name)
  }
})
