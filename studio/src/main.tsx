/** @file The page's frame: its address, colours, and the token. */
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { setToken, takeToken } from './api.js';
import { DatasetsPage } from './datasets-page.js';
import { NewRunPage } from './new-run-page.js';
import { Notifier } from './notify.js';
import { Empty } from './parts.js';
import { PlaygroundPage } from './playground/playground-page.js';
import { RunPage } from './run-page.js';
import { RunsPage } from './runs-page.js';
import './style.css';

const themes = ['auto', 'light', 'dark'] as const;
const themeKey = 'ip-adapter-studio-theme';

/** A run's page and that of a new one are below the first. */
const pages = [
  ['#/', 'Runs'],
  ['#/playground', 'Playground'],
  ['#/datasets', 'Datasets'],
] as const;

function useHash(): string {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = (): void => setHash(location.hash);
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, []);
  return hash;
}

function ThemeSwitch() {
  const [theme, setTheme] = useState(localStorage.getItem(themeKey) ?? 'auto');
  useEffect(() => {
    if (theme === 'auto') document.documentElement.removeAttribute('data-theme');
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem(themeKey, theme);
  }, [theme]);
  return (
    <label class="theme">
      <span class="hidden">Colours</span>
      <select value={theme} onChange={(event) => setTheme(event.currentTarget.value)}>
        {themes.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    </label>
  );
}

function TokenPage() {
  const [text, setText] = useState('');
  return (
    <Empty title="This page needs its token" isPage>
      <p>
        Open the address that <code>ip-adapter studio</code> has printed, or paste it here. A studio that is
        started again has a new one.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setToken(text);
          location.reload();
        }}
      >
        <input
          aria-label="Address or token"
          type="password"
          autocomplete="off"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="primary">
          Open
        </button>
      </form>
    </Empty>
  );
}

function App() {
  const hash = useHash();
  const [needsToken, setNeedsToken] = useState(false);
  useEffect(() => {
    const need = (): void => setNeedsToken(true);
    addEventListener('token-needed', need);
    return () => removeEventListener('token-needed', need);
  }, []);
  const page = pages.findLast(([address]) => hash.startsWith(address))?.[0] ?? '#/';
  const [, run] = /^#\/run\/(.+)$/.exec(hash) ?? [];
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById('main')?.focus()}>
        Skip to content
      </button>
      <nav class="top" aria-label="Studio">
        <a href="#/" class="brand">
          <span>ip-adapter </span>
          <b>studio</b>
        </a>
        {pages.map(([address, title]) => (
          <a key={address} href={address} aria-current={page === address ? 'page' : undefined}>
            {title}
          </a>
        ))}
        <ThemeSwitch />
      </nav>
      <Notifier />
      <main id="main" tabIndex={-1}>
        {needsToken ? (
          <TokenPage />
        ) : run !== undefined ? (
          <RunPage key={run} id={decodeURIComponent(run)} />
        ) : hash === '#/new' ? (
          <NewRunPage />
        ) : hash === '#/playground' ? (
          <PlaygroundPage />
        ) : hash === '#/datasets' ? (
          <DatasetsPage />
        ) : (
          <RunsPage />
        )}
      </main>
    </>
  );
}

takeToken();
render(<App />, document.getElementById('app') as HTMLElement);
