-- Tables, constraints, indexes and views of Glimpse3D. Runs on any PostgreSQL >= 15 and on
-- Supabase, as often as one likes. Steps that change rows: 20261122000002_functions.sql.
--
--   projects 1-* jobs 1-* job_events                      what was asked for, and how it went
--                jobs 1-* job_stages 1-* multiview_generation, depth_maps,
--                                        gaussian_splat_models, enhancement_iterations
--                                        1-1 refinement_metrics, enhanced_views, export_history
--
-- Every result row hangs on the stage of the job that committed it: deleting the `job_stages`
-- row takes back all the stage committed, which is how a stage is committed a second time.

-- ---------------------------------------------------------------------------------------------
-- projects
--
-- status:  uploading -> preprocessing -> ready                    an upload
--          any -> ready                                           submit_job (waits in the queue)
--          ready -> multiview_generating -> depth_estimating -> reconstructing   generate
--          ready -> enhancing <-> refining                        refine
--          ready -> exporting                                     export
--          ready | running words -> completed | failed | cancelled   the end of a job
-- A failed or cancelled project keeps all that was committed, and takes further jobs.
create table if not exists public.projects (
    id text primary key
        constraint projects_id_is_a_path_component check (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    status text not null default 'ready'
        constraint projects_status_is_known check (status in (
            'uploading', 'preprocessing', 'ready', 'multiview_generating', 'depth_estimating',
            'reconstructing', 'enhancing', 'refining', 'exporting', 'completed', 'failed',
            'cancelled')),
    current_step text not null default '',
    progress_percentage double precision not null default 0
        constraint projects_progress_is_a_percentage check (progress_percentage between 0 and 100),
    original_path text not null
        constraint projects_original_path_is_set check (original_path <> ''),
    processed_path text not null
        constraint projects_processed_path_is_set check (processed_path <> ''),
    background_engine text not null,
    error text,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create index if not exists projects_newest_first on public.projects (created_at desc, id);

-- ---------------------------------------------------------------------------------------------
-- jobs
--
--      submit          claim (fence + 1, attempt + 1)       finish
--   --------> queued --------------------------> running --------> succeeded | failed | cancelled
--               ^  \                              |  |  \
--               |   `--- cancel --> cancelled     |  |   `-- claim by another driver, when the
--               `---- release --------------------'  |       lease has expired: stays running,
--                                                    |       fence + 1, attempt + 1
--                                                    `------ cancel: asked for by a flag that the
--                                                            next heartbeat returns
-- A running job whose lease has expired ends as cancelled when its cancellation was asked for, and
-- as failed when no attempt is left. A release takes the attempt back, unless it names an error;
-- then the last attempt fails the job. Ended jobs never change.
create table if not exists public.jobs (
    id text primary key default gen_random_uuid()::text,
    queue_number bigint generated always as identity
        constraint jobs_queue_number_is_unique unique,
    project_id text not null references public.projects (id) on delete cascade,
    kind text not null
        constraint jobs_kind_is_known check (kind in ('generate', 'refine', 'export')),
    state text not null default 'queued'
        constraint jobs_state_is_known check (
            state in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    options jsonb not null default '{}',
    fingerprint text not null,
    idempotency_key text
        constraint jobs_idempotency_key_is_unique unique
        constraint jobs_idempotency_key_has_1_to_255_characters check (
            length(idempotency_key) between 1 and 255),
    stage text not null default '',
    progress double precision not null default 0
        constraint jobs_progress_is_a_fraction check (progress between 0 and 1),
    attempt integer not null default 0
        constraint jobs_attempt_is_not_negative check (attempt >= 0),
    max_attempts integer not null default 3
        constraint jobs_max_attempts_is_1_to_100 check (max_attempts between 1 and 100),
    fence bigint not null default 0
        constraint jobs_fence_counts_claims check (fence >= attempt),
    worker text,
    lease_expires_at timestamptz,
    cancel_requested boolean not null default false,
    error jsonb,
    result jsonb,
    last_event bigint not null default 0,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    constraint jobs_lease_iff_running check ((state = 'running') = (lease_expires_at is not null)),
    constraint jobs_finished_iff_ended check (
        (state in ('succeeded', 'failed', 'cancelled')) = (finished_at is not null)),
    constraint jobs_result_iff_succeeded check ((state = 'succeeded') = (result is not null)),
    constraint jobs_failed_has_error check (state <> 'failed' or error is not null)
);
-- claim, queue position, queue length
create index if not exists jobs_queue on public.jobs (queue_number)
    where state in ('queued', 'running');
create unique index if not exists jobs_one_active_per_project on public.jobs (project_id)
    where state in ('queued', 'running');
-- newest job of a project
create index if not exists jobs_of_project on public.jobs (project_id, queue_number desc);

-- Numbered 1, 2, 3... per job without gaps: readers resume after the last number they saw.
create table if not exists public.job_events (
    job_id text not null references public.jobs (id) on delete cascade,
    seq bigint not null constraint job_events_seq_starts_at_1 check (seq >= 1),
    at timestamptz not null default clock_timestamp(),
    kind text not null
        constraint job_events_kind_is_known check (kind in ('state', 'stage', 'commit', 'cancel')),
    data jsonb not null default '{}',
    primary key (job_id, seq)
);

create table if not exists public.job_stages (
    job_id text not null references public.jobs (id) on delete cascade,
    stage text not null
        constraint job_stages_stage_has_1_to_100_characters check (length(stage) between 1 and 100),
    ordinal integer not null constraint job_stages_ordinal_starts_at_1 check (ordinal >= 1),
    seconds double precision not null
        constraint job_stages_seconds_is_not_negative check (seconds >= 0 and seconds < 'Infinity'),
    fence bigint not null,
    detail jsonb not null default '{}',
    committed_at timestamptz not null default clock_timestamp(),
    primary key (job_id, stage),
    constraint job_stages_ordinal_is_unique unique (job_id, ordinal)
);

-- ---------------------------------------------------------------------------------------------
-- results
create table if not exists public.multiview_generation (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    view_index integer not null
        constraint multiview_generation_view_index_is_not_negative check (view_index >= 0),
    image_path text not null
        constraint multiview_generation_image_path_is_set check (image_path <> ''),
    azimuth_deg double precision not null,
    elevation_deg double precision not null
        constraint multiview_generation_elevation_is_an_angle check (
            elevation_deg between -90 and 90),
    engine text not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint multiview_generation_one_row_per_view unique (job_id, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists multiview_generation_of_project
    on public.multiview_generation (project_id);

create table if not exists public.depth_maps (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    view_index integer not null
        constraint depth_maps_view_index_is_not_negative check (view_index >= 0),
    depth_path text not null constraint depth_maps_depth_path_is_set check (depth_path <> ''),
    heat_map_path text not null,
    engine text not null,
    min_depth double precision not null,
    max_depth double precision not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint depth_maps_range_is_ordered check (min_depth <= max_depth),
    constraint depth_maps_one_row_per_view unique (job_id, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists depth_maps_of_project on public.depth_maps (project_id);

create table if not exists public.gaussian_splat_models (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    version integer not null
        constraint gaussian_splat_models_version_is_not_negative check (version >= 0),
    model_path text not null
        constraint gaussian_splat_models_model_path_is_set check (model_path <> ''),
    engine text not null,
    origin text not null,
    splat_count bigint not null
        constraint gaussian_splat_models_splat_count_is_not_negative check (splat_count >= 0),
    file_size_bytes bigint not null
        constraint gaussian_splat_models_file_size_is_not_negative check (file_size_bytes >= 0),
    -- NaN sorts above Infinity: `< 'NaN'` refuses it and admits the infinite PSNR of equal images.
    psnr double precision
        constraint gaussian_splat_models_psnr_is_a_number check (psnr < 'NaN'),
    ssim double precision
        constraint gaussian_splat_models_ssim_is_in_range check (ssim between -1 and 1),
    lpips double precision
        constraint gaussian_splat_models_lpips_is_in_range check (lpips >= 0 and lpips < 'NaN'),
    overall_quality double precision
        constraint gaussian_splat_models_quality_is_a_number check (overall_quality < 'NaN'),
    created_at timestamptz not null default clock_timestamp(),
    constraint gaussian_splat_models_one_row_per_version unique (project_id, version),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists gaussian_splat_models_of_stage
    on public.gaussian_splat_models (job_id, stage);

create table if not exists public.enhancement_iterations (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null
        constraint enhancement_iterations_number_is_not_negative check (iteration_number >= 0),
    accepted boolean not null,
    model_version integer,
    enhance_engine text not null,
    strength double precision not null,
    learning_rate double precision not null,
    seconds double precision not null
        constraint enhancement_iterations_seconds_is_not_negative check (
            seconds >= 0 and seconds < 'Infinity'),
    note text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    constraint enhancement_iterations_one_row_per_number unique (job_id, iteration_number),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    -- Deferred: a stage committed anew takes its models away before it brings them back.
    constraint enhancement_iterations_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists enhancement_iterations_of_project
    on public.enhancement_iterations (project_id, model_version);

create table if not exists public.refinement_metrics (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null,
    overall_quality double precision not null
        constraint refinement_metrics_quality_is_a_number check (overall_quality < 'NaN'),
    psnr double precision not null
        constraint refinement_metrics_psnr_is_a_number check (psnr < 'NaN'),
    ssim double precision not null
        constraint refinement_metrics_ssim_is_in_range check (ssim between -1 and 1),
    lpips double precision
        constraint refinement_metrics_lpips_is_in_range check (lpips >= 0 and lpips < 'NaN'),
    created_at timestamptz not null default clock_timestamp(),
    constraint refinement_metrics_one_row_per_number unique (job_id, iteration_number),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    foreign key (job_id, iteration_number)
        references public.enhancement_iterations (job_id, iteration_number) on delete cascade
);
create index if not exists refinement_metrics_of_project
    on public.refinement_metrics (project_id);

create table if not exists public.enhanced_views (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    iteration_number integer not null
        constraint enhanced_views_number_is_not_negative check (iteration_number >= 0),
    view_index integer not null
        constraint enhanced_views_view_index_is_not_negative check (view_index >= 0),
    image_path text not null
        constraint enhanced_views_image_path_is_set check (image_path <> ''),
    engine text not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint enhanced_views_one_row_per_view unique (job_id, iteration_number, view_index),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade
);
create index if not exists enhanced_views_of_project on public.enhanced_views (project_id);

create table if not exists public.export_history (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    model_version integer not null,
    format text not null constraint export_history_format_is_a_word check (format ~ '^[a-z0-9]+$'),
    optimize boolean not null,
    file_path text not null constraint export_history_file_path_is_set check (file_path <> ''),
    file_size_bytes bigint not null
        constraint export_history_file_size_is_not_negative check (file_size_bytes >= 0),
    seconds double precision not null
        constraint export_history_seconds_is_not_negative check (
            seconds >= 0 and seconds < 'Infinity'),
    created_at timestamptz not null default clock_timestamp(),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    constraint export_history_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists export_history_of_project
    on public.export_history (project_id, model_version);
create index if not exists export_history_of_stage on public.export_history (job_id, stage);

-- ---------------------------------------------------------------------------------------------
-- updated_at
create or replace function public.touch_updated_at() returns trigger
language plpgsql set search_path = public, pg_temp as $$
begin
    new.updated_at := clock_timestamp();
    return new;
end
$$;
create or replace trigger projects_touch_updated_at before update on public.projects
    for each row execute function public.touch_updated_at();
create or replace trigger jobs_touch_updated_at before update on public.jobs
    for each row execute function public.touch_updated_at();

-- ---------------------------------------------------------------------------------------------
-- views, with the rights of who reads them
create or replace view public.project_summary with (security_invoker = true) as
select
    p.id,
    p.status,
    p.current_step,
    p.progress_percentage,
    p.error,
    (select count(distinct v.view_index) from public.multiview_generation v
      where v.project_id = p.id) as views,
    (select count(distinct d.view_index) from public.depth_maps d
      where d.project_id = p.id) as depth_maps,
    (select count(*) from public.gaussian_splat_models m
      where m.project_id = p.id) as model_versions,
    newest.version as newest_version,
    newest.model_path as newest_model_path,
    newest.splat_count,
    newest.overall_quality,
    (select count(*) from public.enhancement_iterations i
      where i.project_id = p.id and i.iteration_number > 0) as refinement_iterations,
    (select count(*) from public.export_history e where e.project_id = p.id) as exports,
    (select j.id from public.jobs j
      where j.project_id = p.id and j.state in ('queued', 'running')) as active_job_id,
    p.created_at,
    p.updated_at
from public.projects p
left join lateral (
    select m.version, m.model_path, m.splat_count, m.overall_quality
      from public.gaussian_splat_models m
     where m.project_id = p.id
     order by m.version desc
     limit 1
) newest on true;

create or replace view public.refinement_progress with (security_invoker = true) as
select
    i.project_id,
    i.job_id,
    i.iteration_number,
    i.accepted,
    i.model_version,
    i.enhance_engine,
    i.strength,
    i.learning_rate,
    i.seconds,
    m.overall_quality,
    m.overall_quality
        - lag(m.overall_quality) over (partition by i.job_id order by i.iteration_number)
        as quality_gain,
    m.psnr,
    m.ssim,
    m.lpips,
    i.note,
    i.created_at
from public.enhancement_iterations i
join public.refinement_metrics m using (job_id, iteration_number);

-- ---------------------------------------------------------------------------------------------
-- Row level security is on and no policy opens anything here: the owner of the tables (this
-- service) passes it; who else may read is decided by the migrations that only Supabase gets.
alter table public.projects enable row level security;
alter table public.jobs enable row level security;
alter table public.job_events enable row level security;
alter table public.job_stages enable row level security;
alter table public.multiview_generation enable row level security;
alter table public.depth_maps enable row level security;
alter table public.gaussian_splat_models enable row level security;
alter table public.enhancement_iterations enable row level security;
alter table public.refinement_metrics enable row level security;
alter table public.enhanced_views enable row level security;
alter table public.export_history enable row level security;

comment on table public.projects is 'One uploaded photo and where its newest job stands.';
comment on table public.jobs is
    'Work asked for: generate, refine, export. A running job is held by lease and fence.';
comment on table public.job_events is
    'What happened to a job: state changes, stage changes and commits, numbered without gaps.';
comment on table public.job_stages is 'Stages a job has committed; what a new attempt resumes from.';
comment on table public.multiview_generation is 'Synthesised views, one row per view.';
comment on table public.depth_maps is 'Depth of the synthesised views, one row per view.';
comment on table public.gaussian_splat_models is 'Versions of the splat model of a project.';
comment on table public.enhancement_iterations is 'Refinement iterations: what ran.';
comment on table public.refinement_metrics is 'Refinement iterations: what came out.';
comment on table public.enhanced_views is 'Enhanced target views of refinement iterations.';
comment on table public.export_history is 'Exported files.';
comment on view public.project_summary is 'Projects with counts and their newest model.';
comment on view public.refinement_progress is
    'Refinement iterations with their scores and the gain over the iteration before.';
