"""The page of ``tools/webapp.py``: a picture, class names, and what seg, img and full make of them."""

from collections.abc import Callable, Sequence

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal

from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.apis.demo_page_html import CSS, chips, explanation, legend, problem
from mmzeg.apis.demo_session import Session, class_names
from mmzeg.models.fusion import ScoreFusion

MODES = {'seg': 'text alone (seg)', 'img': 'CLIP alone (img)', 'full': 'both (full)'}
# Seconds: how long a visitor's picture is kept, and how often old files are looked for.
KEEP, TIDY = 1800, 300
# Visitors whose pictures are kept, the latest ones; and how many may wait.
SESSIONS, WAITING = 16, 32
GONE = f'no named picture: give one first (it is kept for {KEEP // 60} minutes)'
NAME_EXAMPLES = """() => document.querySelectorAll('.gallery-item').forEach(
    (button, place) => button.setAttribute('aria-label', `Example ${place + 1}`))"""
NO_FILES = gr.update(value=None, visible=False)
# No font from elsewhere; notes dark enough to be read.
THEME = gr.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']).set(
    block_info_text_color='*neutral_600', block_info_text_color_dark='*neutral_300'
)


class Actions:
    """What the page does at an event. All that is a visitor's own comes in and goes out.

    Args:
        inferencer (ZeroShotInferencer): The model.
    """

    def __init__(self, inferencer: ZeroShotInferencer) -> None:
        self.inferencer = inferencer
        # Of fusion, one view each.
        self.modes = list(MODES) if inferencer.model.scorer is not None else ['seg']
        # No views, legend, details and files.
        self.blank = [*[None] * len(self.modes), '', '', NO_FILES]

    def open(self, upload: dict | None, text: str, gamma: float, lam: float) -> list:
        """Another picture, or none any more. The upload is as the browser says, its file as it came."""
        if upload is None:
            return [None, '', *self.blank]
        path = str(upload.get('path'))
        try:
            # Whoever writes requests by hand could name any file of this machine.
            if not is_in_or_equal(path, get_upload_folder()):
                raise ValueError('this is no upload')
            visit = Session.begin(self.inferencer, path)
        except (OSError, ValueError) as error:
            return [None, problem(error, path), *self.blank]
        return self.name(visit, text, gamma, lam)

    def name(self, visit: Session | None, text: str, gamma: float, lam: float) -> list:
        """Other names."""
        if visit is None:
            return [None, problem(GONE), *self.blank]
        try:
            visit = visit.named(self.inferencer, class_names(text))
        except ValueError as error:
            return [visit.named(self.inferencer, None), problem(error), *self.blank]
        return [visit, '', *self.move(visit, gamma, lam), '', NO_FILES]

    def move(self, visit: Session | None, gamma: float, lam: float) -> list:
        """Other settings: views and legend."""
        if visit is None or visit.preview is None:
            return [gr.skip()] * (len(self.modes) + 1)
        drawn = {mode: visit.draw(ScoreFusion(mode, lam, gamma)) for mode in self.modes}
        shares = {mode: share for mode, (_, share) in drawn.items()}
        return [*(view for view, _ in drawn.values()), legend(visit.opinions.vocabulary, shares)]

    def click(self, mode: str) -> Callable:
        """What a click on the view of a mode does."""

        def clicked(visit: Session | None, gamma: float, lam: float, event: gr.SelectData) -> list:
            place = (None, None) if visit is None or visit.preview is None else visit.pixel(*event.index)
            return self.explain(visit, mode, *place, gamma, lam)

        return clicked

    def explain(self, visit: Session | None, mode: str, x: int | None, y: int | None, gamma: float, lam: float) -> list:
        """The views, that of the mode with a segment's outline, and why a pixel has its name."""
        views = [gr.skip()] * len(self.modes)
        if visit is None or visit.preview is None:
            return [*views, problem(GONE)]
        if x is None or y is None:
            return [*views, problem('no pixel: give x and y')]
        try:
            views[self.modes.index(mode)], found = visit.explain(ScoreFusion(mode, lam, gamma), int(x), int(y))
        except ValueError as error:
            return [*views, problem(error)]
        return [*views, explanation(found, visit.opinions.vocabulary, mode)]

    def files(self, visit: Session | None, mode: str, gamma: float, lam: float) -> tuple:
        """Mask and JSON, where Gradio finds and deletes them."""
        if visit is None or visit.preview is None:
            return NO_FILES, problem(GONE)
        contents = visit.files(ScoreFusion(mode, lam, gamma))
        paths = [save_bytes_to_cache(data, name, get_upload_folder()) for name, data in contents.items()]
        return gr.update(value=paths, visible=True), ''

    def understood(self, text: str) -> str:
        """The names that are being typed."""
        try:
            return chips(class_names(text), self.inferencer.trained.names)
        except ValueError as error:
            return problem(error)


def build_page(inferencer: ZeroShotInferencer, examples: Sequence[str] = ()) -> gr.Blocks:
    """The page, ready for ``serve``.

    Args:
        inferencer (ZeroShotInferencer): The model; shared by all visitors.
        examples (Sequence[str]): Files of pictures that are offered.
    """
    own = inferencer.model.fusion
    actions = Actions(inferencer)
    modes = actions.modes
    names = '\n'.join(inferencer.model.vocabulary.names)
    with gr.Blocks(title='mmzeg', analytics_enabled=False, delete_cache=(TIDY, KEEP)) as page:
        visit = gr.State(None, time_to_live=KEEP)
        gr.Markdown(
            '# mmzeg: segments by any name\nGive a picture and class names. A star marks names that the model was not '
            'trained on. Click a result to see why a pixel has its name.'
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                picture = gr.Image(
                    label='Picture', sources=['upload', 'clipboard'], height=300, elem_id='picture', buttons=[]
                )
                if examples:
                    gr.Examples(list(examples), picture, label='Examples')
            with gr.Column(scale=3, min_width=280):
                typed = gr.Textbox(
                    names,
                    label='Class names',
                    info='One a line, or separated by ";". "cat, kitten" is one class with a synonym.',
                    lines=5,
                    max_lines=8,
                    elem_id='classes',
                )
                understood = gr.HTML(actions.understood(names), elem_classes='mmzeg', elem_id='understood')
                button = gr.Button('Name the segments', variant='primary', elem_id='name')
        said = gr.HTML(elem_classes='mmzeg', elem_id='message')
        with gr.Row():
            gamma = slider('gamma', own.gamma, 'gamma: how much is taken from seen classes')
            label = "lambda: how much CLIP's opinion weighs for unseen classes"
            lam = slider('lam', own.lam, label, visible='full' in modes)
        with gr.Row():
            views = [
                gr.Image(
                    label=MODES[mode],
                    format='jpeg',
                    interactive=False,
                    min_width=280,
                    buttons=['fullscreen'],
                    alt_text=f'The picture in the colours of its classes, {MODES[mode]}',
                    elem_id=f'view_{mode}',
                )
                for mode in modes
            ]
        with gr.Row():
            with gr.Column(min_width=280):
                key = gr.HTML(elem_classes='mmzeg', elem_id='legend')
            with gr.Column(min_width=280):
                details = gr.HTML(elem_classes='mmzeg', elem_id='details')
        with gr.Row():
            which = gr.Radio(modes, value=modes[-1], label='Of which result', elem_id='which', min_width=280)
            # What a click does, for those who use no pointer.
            x, y = (
                gr.Number(0, label=f'Pixel, {name}', precision=0, minimum=0, min_width=100, elem_id=f'pixel_{name}')
                for name in 'xy'
            )
            point = gr.Button('Why has this pixel its name?', elem_id='point')
            make = gr.Button('Make mask (PNG) and segments (JSON)', elem_id='make')
        made = gr.File(label='Files', file_count='multiple', interactive=False, visible=False, elem_id='files')

        settings, results = [gamma, lam], [visit, said, *views, key, details, made]
        private = dict(api_visibility='private')
        # One picture at a time: the inferencer takes them one after another anyway.
        network = dict(private, concurrency_id='network', concurrency_limit=1, trigger_mode='always_last')
        # Not preprocessed: the inferencer reads the file, and says what is wrong with it.
        picture.change(actions.open, [picture, typed, *settings], results, preprocess=False, **network)
        gr.on([button.click, typed.submit], actions.name, [visit, typed, *settings], results, **network)
        # What only redraws is not queued behind other visitors' pictures.
        quick = dict(private, queue=False, show_progress='hidden', trigger_mode='always_last')
        typed.change(actions.understood, typed, understood, **quick)
        gr.on([gamma.input, lam.input], actions.move, [visit, *settings], [*views, key], **quick)
        for mode, view in zip(modes, views, strict=True):
            view.select(actions.click(mode), [visit, *settings], [*views, details], **quick)
        point.click(actions.explain, [visit, which, x, y, *settings], [*views, details], **quick)
        # Gradio leaves the buttons of examples without a name.
        page.load(None, js=NAME_EXAMPLES)
        make.click(actions.files, [visit, which, *settings], [made, said], **network)
    return page


def slider(name: str, value: float, label: str, **options: object) -> gr.Slider:
    """A slider from 0 to 1 in hundredths."""
    return gr.Slider(0, 1, round(value, 2), step=0.01, label=label, min_width=280, elem_id=name, **options)


def serve(page: gr.Blocks, host: str, port: int | None, max_upload: str = '20mb') -> str:
    """Serve a page from a thread, and nothing but it: no share link, no API page, no history of runs.

    Args:
        page (gr.Blocks): Of ``build_page``.
        host (str): Address to listen on.
        port (int, optional): By default the first free one from 7860 on.
        max_upload (str): Largest file, as "20mb".

    Returns:
        str: Its address.

    Raises:
        OSError: The port is taken.
    """
    page.queue(max_size=WAITING)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        max_file_size=max_upload,
        state_session_capacity=SESSIONS,
        theme=THEME,
        css=CSS,
        footer_links=[],
        run_history=False,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    return address
