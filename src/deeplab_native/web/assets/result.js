const one = (selector) => element.querySelector(selector);
const page = (window.deeplabNative ??= {});
const error = one('.dn-error'), there = one('.dn-there'), facts = one('.dn-facts');
const which = one('.dn-which'), iteration = one('.dn-iteration'), divider = one('.dn-divider');
let shown = null; // the last answer that has a result
let view = 'labels';

page.say = (text) => {
  error.textContent = text;
  error.hidden = !text;
  if (text) there.classList.remove('dn-busy');
};
page.wait = () => there.classList.add('dn-busy');

// Of the pictures that are wanted while one is fetched, only the last one is.
function pictureOf(image) {
  let wanted = null, busy = false;
  return async function show(address) {
    wanted = address;
    if (busy) return;
    busy = true;
    while (wanted) {
      const now = wanted;
      wanted = null;
      try {
        const answer = await fetch(now);
        if (!answer.ok) throw new Error((await answer.json()).error);
        const last = image.src;
        image.src = URL.createObjectURL(await answer.blob());
        await image.decode();
        image.dataset.address = now;
        if (last) URL.revokeObjectURL(last);
      } catch (problem) {
        if (!wanted) page.say(problem.message);
      }
    }
    busy = false;
  };
}
const before = pictureOf(one('.dn-before')), after = pictureOf(one('.dn-after'));
const map = pictureOf(one('.dn-map img'));

const address = (what, more = '') =>
  `picture/${page.secret}/${what}?v=${shown.photo.number}.${shown.version}${more}`;

function draw() {
  if (!shown) return;
  const ofLabel = view !== 'labels';
  one('.dn-compare').hidden = ofLabel;
  one('.dn-map').hidden = one('.dn-of-label').hidden = !ofLabel;
  one('.dn-when').hidden = view !== 'belief';
  iteration.max = shown.iterations;
  one('output').textContent = iteration.value;
  const name = which.selectedOptions[0]?.textContent ?? '';
  if (view === 'labels') {
    before(address('before'));
    after(address('after'));
  } else if (view === 'score') {
    map(address('score', `&label=${which.value}`));
    one('.dn-map img').alt = `Score map of ${name}`;
    one('figcaption').textContent =
      `Before the CRF. Red: ${name} is ahead of the best other label; blue: it is behind.`;
  } else {
    map(address('belief', `&label=${which.value}&iteration=${iteration.value}`));
    one('.dn-map img').alt = `Belief in ${name} after iteration ${iteration.value}`;
    one('figcaption').textContent =
      `Black: surely not ${name}; light: surely ${name}. Iteration 0 is before the CRF.`;
  }
}

function fill(next) {
  one('.dn-empty').hidden = true;
  there.hidden = false;
  const chosen = which.value;
  const last = !shown || Number(iteration.value) === shown.iterations;
  const other = !shown || shown.photo.number !== next.photo.number || shown.mode !== next.mode;
  shown = next;
  which.replaceChildren(...next.labels.map((label) => new Option(label.name, label.label)));
  const largest = next.labels.reduce((a, b) => (b.label && b.after > (a.label ? a.after : -1) ? b : a));
  const kept = !other && next.labels.some((label) => String(label.label) === chosen);
  which.value = kept ? chosen : largest.label;
  iteration.max = next.iterations;
  if (last) iteration.value = next.iterations;
  const aspect = `${next.photo.width} / ${next.photo.height}`;
  for (const figure of element.querySelectorAll('figure')) figure.style.setProperty('--aspect', aspect);
  const changed = `; ${(100 * next.changed).toFixed(1)} % of the pixels changed`;
  facts.textContent = `${next.milliseconds} ms for the CRF of ${next.photo.width} × ` +
    `${next.photo.height} pixels and ${next.labels.length} labels` +
    (next.mode === 'scribbles' ? '' : changed);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  one('.dn-legend tbody').replaceChildren(...next.labels
    .filter((label) => label.before >= 5e-4 || label.after >= 5e-4)
    .map((label) => {
      const row = document.createElement('tr'), name = document.createElement('th');
      const colour = document.createElement('i');
      colour.style.background = label.colour;
      name.scope = 'row';
      name.append(colour, label.name);
      row.append(name);
      for (const share of [label.before, label.after]) row.insertCell().textContent = percent(share);
      return row;
    }));
  for (const link of element.querySelectorAll('.dn-files a')) {
    link.href = `download/${page.secret}/${link.dataset.file}`;
    link.hidden = (link.dataset.file === 'labelling.png' && next.mode !== 'scribbles') ||
      (link.dataset.file === 'photo.png' && !next.photo.copy);
    if (link.dataset.file === 'photo.png') link.download = next.photo.copy ?? '';
  }
  one('.dn-command').textContent = next.command;
  one('.dn-python').textContent = next.python;
  draw();
}

function take() {
  const next = props.value ?? {};
  if (next.secret) page.secret = next.secret;
  there.classList.remove('dn-busy');
  page.say(next.error ?? '');
  one('.dn-notes').replaceChildren(...(next.notes ?? []).map((note) => {
    const item = document.createElement('li');
    item.textContent = note;
    return item;
  }));
  if (next.photo) page.photo = next.photo;
  if (next.photo) document.dispatchEvent(new CustomEvent('dn-photo', {detail: next.photo}));
  if (next.version) fill(next);
  else if (next.photo && next.photo.number !== shown?.photo.number) {
    shown = null;
    there.hidden = true;
    one('.dn-empty').hidden = false;
    one('.dn-empty').textContent = next.error ? '' : 'Paint on the photograph, or drop a file with its labels.';
  }
}

for (const choice of element.querySelectorAll('.dn-views input'))
  choice.addEventListener('change', () => { view = choice.value; draw(); });
which.addEventListener('change', draw);
iteration.addEventListener('input', draw);
const divide = () => one('.dn-compare').style.setProperty('--at', `${divider.value}%`);
divider.addEventListener('input', divide);
divide();
for (const button of element.querySelectorAll('.dn-code button'))
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
watch('value', take);
take();
